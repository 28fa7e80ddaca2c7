import { describe, expect, it } from 'vitest';
import type { Rollup } from '../api/types.ts';
import { PRESETS, type Range, bucketWidth, buckets, comparison, lastMinutes, newest30Days, resolve, snap, widthMs } from './period.ts';
import { DAY, HOUR, isMidnight, startOfHour } from './zone.ts';

const at = (text: string): number => Date.parse(text);
const range = (from: string, to: string): Range => ({ from: at(from), to: at(to) });
const PARIS = 'Europe/Paris';
const NOW = at('2026-03-30T10:20:00Z');

describe('resolve', () => {
  it('has edges on whole hours, or midnights where long, and holds the present', () => {
    for (const zone of ['UTC', PARIS, 'Asia/Kolkata']) {
      for (const preset of PRESETS) {
        const { from, to } = resolve(preset, NOW, zone);
        expect(from).toBeLessThan(NOW);
        expect(to).toBeGreaterThan(NOW);
        expect([from, to].every((edge) => startOfHour(edge, zone) === edge)).toBe(true);
        if (!['today', '24h'].includes(preset)) expect([from, to].every((edge) => isMidnight(edge, zone))).toBe(true);
      }
    }
  });

  it('counts days of the calendar, not of 24 hours', () => {
    // The clocks leapt on the 29th.
    expect(resolve('7d', NOW, PARIS)).toEqual(range('2026-03-23T23:00:00Z', '2026-03-30T22:00:00Z'));
    expect(resolve('today', NOW, PARIS)).toEqual(range('2026-03-29T22:00:00Z', '2026-03-30T11:00:00Z'));
    expect(resolve('24h', NOW, PARIS)).toEqual(range('2026-03-29T11:00:00Z', '2026-03-30T11:00:00Z'));
    expect(resolve('12m', NOW, 'UTC')).toEqual(range('2025-03-31T00:00:00Z', '2026-03-31T00:00:00Z'));
  });

  it('is never empty', () => {
    const midnight = at('2026-03-30T00:00:00Z');
    expect(resolve('today', midnight, 'UTC')).toEqual(range('2026-03-30T00:00:00Z', '2026-03-30T01:00:00Z'));
  });

  it('leaves a range as it is', () => {
    const own = range('2025-12-02T00:00:00Z', '2026-01-01T00:00:00Z');
    expect(resolve(own, NOW, 'UTC')).toEqual(own);
    expect(newest30Days(at('2025-12-31T00:00:00Z'), 'UTC')).toEqual(own);
  });
});

describe('lastMinutes', () => {
  it('holds the present minute and so many whole ones', () => {
    expect(lastMinutes(5, at('2026-03-30T10:20:30Z'))).toEqual(range('2026-03-30T10:15:00Z', '2026-03-30T10:21:00Z'));
  });
});

describe('snap', () => {
  it('widens to whole hours, and to midnights where long', () => {
    expect(snap(range('2026-01-01T10:20:00Z', '2026-01-01T12:01:00Z'), 'UTC')).toEqual(range('2026-01-01T10:00:00Z', '2026-01-01T13:00:00Z'));
    expect(snap(range('2026-01-01T10:20:00Z', '2026-02-01T12:01:00Z'), 'UTC')).toEqual(range('2026-01-01T00:00:00Z', '2026-02-02T00:00:00Z'));
    expect(snap(range('2026-01-01T10:00:00Z', '2026-01-01T10:00:00Z'), 'UTC')).toEqual(range('2026-01-01T10:00:00Z', '2026-01-01T11:00:00Z'));
  });
});

describe('comparison', () => {
  it('takes whole periods of the past as they are', () => {
    const days = range('2026-01-01T00:00:00Z', '2026-01-08T00:00:00Z');
    expect(comparison(days, NOW, 'UTC')).toEqual({ current: days, previous: range('2025-12-25T00:00:00Z', '2026-01-01T00:00:00Z') });
    const hours = range('2026-01-01T05:00:00Z', '2026-01-01T09:00:00Z');
    expect(comparison(hours, NOW, 'UTC')?.previous).toEqual(range('2026-01-01T01:00:00Z', '2026-01-01T05:00:00Z'));
  });

  it('leaves out the hour or day that is not over', () => {
    expect(comparison(resolve('24h', NOW, 'UTC'), NOW, 'UTC')).toEqual({
      current: range('2026-03-29T11:00:00Z', '2026-03-30T10:00:00Z'),
      previous: range('2026-03-28T12:00:00Z', '2026-03-29T11:00:00Z'),
    });
    expect(comparison(resolve('7d', NOW, PARIS), NOW, PARIS)).toEqual({
      current: range('2026-03-23T23:00:00Z', '2026-03-29T22:00:00Z'),
      previous: range('2026-03-17T23:00:00Z', '2026-03-23T23:00:00Z'),
    });
  });

  it('compares a morning with a morning', () => {
    expect(comparison(resolve('today', NOW, 'UTC'), NOW, 'UTC')).toEqual({
      current: range('2026-03-30T00:00:00Z', '2026-03-30T10:00:00Z'),
      previous: range('2026-03-29T00:00:00Z', '2026-03-29T10:00:00Z'),
    });
  });

  it('is nothing before the first hour is over', () => {
    const now = at('2026-03-30T00:20:00Z');
    expect(comparison(resolve('today', now, 'UTC'), now, 'UTC')).toBeNull();
  });
});

describe('buckets', () => {
  const rollup = (every: string, dimensions: string[]): Rollup => ({
    name: every,
    every,
    dimensions,
    measures: [{ name: 'revenue', type: 'decimal' }],
  });
  const rollups = [rollup('1m', ['region']), rollup('1h', ['region', 'product']), rollup('1d', ['region', 'product'])];
  const width = (hours: number, dimensions: string[] = []) =>
    bucketWidth({ from: at('2026-01-01T00:00:00Z'), to: at('2026-01-01T00:00:00Z') + hours * HOUR }, 'revenue', dimensions, rollups, 'UTC');

  it('are as narrow as can be read', () => {
    expect([1, 6, 24, 7 * 24, 30 * 24, 366 * 24].map((hours) => width(hours))).toEqual(['1m', '1m', '5m', '1h', '1d', '1d']);
  });

  it('are as wide as the rollup that has the dimensions', () => {
    expect(width(6, ['product'])).toBe('1h');
    expect(width(6, ['region'])).toBe('1m');
    // Nothing fits: the server is asked all the same, and says why.
    expect(width(6, ['weather'])).toBe('1m');
  });

  it('by day want midnights', () => {
    const ragged = range('2026-01-01T05:00:00Z', '2026-03-01T05:00:00Z');
    expect(bucketWidth(ragged, 'revenue', [], [rollup('1d', [])], 'UTC')).toBe('1d');
    expect(bucketWidth(ragged, 'revenue', [], [rollup('1h', []), rollup('1d', [])], 'UTC')).toBe('1d');
  });

  it('leave none out, also when the clocks change', () => {
    const spring = range('2026-03-28T23:00:00Z', '2026-03-30T22:00:00Z');
    expect(buckets(spring, '1d', PARIS)).toEqual([at('2026-03-28T23:00:00Z'), at('2026-03-29T22:00:00Z')]);
    expect(buckets(spring, '1h', PARIS)).toHaveLength(47);
  });

  it('have widths as the server writes them', () => {
    expect(['1m', '1h', '1d', '1h 30m', '15m'].map(widthMs)).toEqual([60_000, HOUR, DAY, 1.5 * HOUR, HOUR / 4]);
    expect(widthMs('soon')).toBe(Infinity);
  });
});
