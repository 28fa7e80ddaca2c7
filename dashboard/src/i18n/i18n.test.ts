import { describe, expect, it } from 'vitest';
import { createFormat } from './format.ts';
import { localeOf, preferred } from './index.ts';

/** Intl puts several kinds of space. */
const plain = (text: string): string => text.replace(/[\s\u202F\u00A0]/g, ' ');

describe('languages', () => {
  it('are the first of the reader’s that there is', () => {
    expect(preferred(['de-DE', 'fr-CA', 'en'])).toBe('fr');
    expect(preferred(['de'])).toBe('en');
    expect([localeOf('fr', ['fr-CA']), localeOf('en', ['fr-FR'])]).toEqual(['fr-CA', 'en-GB']);
  });
});

describe('formats', () => {
  const fr = createFormat('fr-FR', 'Europe/Paris');
  const en = createFormat('en-GB', 'UTC');
  const at = (text: string): number => Date.parse(text);

  it('lose no digit of a decimal', () => {
    expect(plain(fr.money('90071992547409931.27'))).toBe('90 071 992 547 409 931,27 €');
    expect(en.money('1234.50')).toBe('€1,234.50');
  });

  it('show the last day of a period, not the midnight after it', () => {
    const december = { from: at('2025-12-02T00:00:00Z'), to: at('2026-01-01T00:00:00Z') };
    expect(plain(en.range(december))).toContain('31 Dec 2025');
    expect(plain(en.range({ from: at('2025-12-31T00:00:00Z'), to: at('2026-01-01T00:00:00Z') }))).toBe('31 December 2025');
    expect(plain(en.range({ from: at('2025-12-31T05:00:00Z'), to: at('2025-12-31T09:00:00Z') }))).toContain('05:00');
  });

  it('are in the stream’s zone', () => {
    expect(fr.clock(at('2026-07-01T10:00:00Z'))).toBe('12:00:00');
    expect(en.weekday(0)).toBe('Mon');
  });

  it('show what is missing as missing', () => {
    expect(en.cell(null, 'money')).toBe('—');
  });
});
