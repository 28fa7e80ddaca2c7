import { expect, it } from 'vitest';
import { escape, tooltip } from './tooltip.ts';

it('lets no name of the data become a part of the page', () => {
  const name = `<img src=x onerror="alert('1')">&`;
  expect(escape(name)).toBe('&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;');
  expect(tooltip(name, [[name, name]])).not.toMatch(/<img/);
});
