import { expect, it } from 'vitest';
import { marks } from './marks.ts';
import { buckets } from './period.ts';

const at = (text: string): number => Date.parse(text);
const marked = (from: string, to: string, width: '1m' | '5m' | '1h' | '1d', zone: string): string[] => {
  const starts = buckets({ from: at(from), to: at(to) }, width, zone);
  return [...marks(starts, zone, 8)].map((index) => new Date(starts[index] ?? NaN).toISOString().slice(0, 16));
};

it('marks whole hours of a day', () => {
  expect(marked('2026-01-01T04:00:00Z', '2026-01-02T04:00:00Z', '5m', 'UTC')).toEqual(
    ['01T06', '01T09', '01T12', '01T15', '01T18', '01T21', '02T00', '02T03'].map((hour) => `2026-01-${hour}:00`),
  );
});

it('marks midnights of the zone, also when the clocks change', () => {
  expect(marked('2026-03-26T23:00:00Z', '2026-04-02T10:00:00Z', '1h', 'Europe/Paris')).toEqual(
    ['03-26T23', '03-27T23', '03-28T23', '03-29T22', '03-30T22', '03-31T22', '04-01T22'].map((hour) => `2026-${hour}:00`),
  );
});

it('marks months of a year', () => {
  expect(marked('2025-01-15T00:00:00Z', '2026-01-15T00:00:00Z', '1d', 'UTC')).toEqual(
    ['2025-03', '2025-05', '2025-07', '2025-09', '2025-11', '2026-01'].map((month) => `${month}-01T00:00`),
  );
});

it('marks the first time where nothing else is to be marked', () => {
  expect(marked('2026-01-06T00:00:00Z', '2026-01-07T00:00:00Z', '1d', 'UTC')).toHaveLength(1);
});
