import { describe, expect, it } from 'vitest';
import { START, type View, format, isFiltered, only, parse, toggled } from './state.ts';

describe('a view and its URL', () => {
  const views: View[] = [
    START,
    { ...START, page: 'pipeline' },
    { page: 'clicks', period: '7d', measure: 'sales', filters: { page: ['/', '/a b?c&d=é#'] } },
    {
      page: 'sales',
      period: { from: Date.parse('2025-12-02T00:00:00Z'), to: Date.parse('2026-01-01T00:00:00Z') },
      measure: 'revenue',
      filters: { region: ["Provence-Alpes-Côte d'Azur", null], product: ['<b>, "x"', ''], category: [null] },
    },
  ];

  it('say the same', () => {
    for (const view of views) expect(parse(format(view))).toEqual(view);
  });

  it('are short where there is nothing to say', () => {
    expect(format(START)).toBe('');
    expect(parse('')).toEqual(START);
  });

  it('leave out what is not understood', () => {
    expect(parse('?view=money&period=ever&measure=love&colour=red')).toEqual(START);
    expect(parse('?from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z').period).toBeNull();
    expect(parse('?from=yesterday&to=today').period).toBeNull();
    expect(parse('?region=Corse&region=Corse').filters).toEqual({ region: ['Corse'] });
  });
});

describe('filters', () => {
  it('are added and taken away by the same click', () => {
    const one = toggled({}, 'region', 'Corse');
    const two = toggled(one, 'region', null);
    expect(two).toEqual({ region: ['Corse', null] });
    expect(isFiltered(two, 'region', null)).toBe(true);
    expect(toggled(toggled(two, 'region', 'Corse'), 'region', null)).toEqual({});
  });

  it('apply to streams that have the field', () => {
    expect(only({ region: ['Corse'], page: ['/'] }, ['region', 'product'])).toEqual({ region: ['Corse'] });
  });
});
