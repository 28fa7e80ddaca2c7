// Periods: from what a person chooses to the edges that a question has.
//
// Owns: edges (whole hours, or midnights, of the stream's zone, because rollups by product are hourly), what a period is
// compared with, and how wide the buckets of a picture are.
// Does not own: the calendar (`zone`), how periods are written into the URL (`state`).
import type { Rollup } from '../api/types.ts';
import { DAY, HOUR, MINUTE, addDays, addMonths, daysBetween, endOfHour, isMidnight, startOfDay, startOfHour } from './zone.ts';

/** Half open, ms: `from` belongs to it, `to` does not. */
export interface Range {
  readonly from: number;
  readonly to: number;
}

export const PRESETS = ['today', '24h', '7d', '30d', '12m'] as const;
export type Preset = (typeof PRESETS)[number];

/** A preset moves with the clock; a range stays. */
export type Period = Preset | Range;

export function resolve(period: Period, now: number, zone: string): Range {
  switch (period) {
    case 'today':
      // Never empty, also at midnight sharp.
      return { from: startOfDay(now, zone), to: endOfHour(now + 1, zone) };
    case '24h': {
      const to = endOfHour(now + 1, zone);
      return { from: startOfHour(to - DAY, zone), to };
    }
    case '7d':
      return { from: addDays(now, -6, zone), to: addDays(now, 1, zone) };
    case '30d':
      return newest30Days(now, zone);
    case '12m':
      return { from: addMonths(addDays(now, 1, zone), -12, zone), to: addDays(now, 1, zone) };
    default:
      return period;
  }
}

/** The thirty days that end with the day of this time. */
export function newest30Days(time: number, zone: string): Range {
  return { from: addDays(time, -29, zone), to: addDays(time, 1, zone) };
}

/** The smallest range with whole hours as edges that holds this one; midnights where it is long. */
export function snap(range: Range, zone: string): Range {
  const hours = { from: startOfHour(range.from, zone), to: endOfHour(range.to, zone) };
  if (hours.to <= hours.from) return { from: hours.from, to: endOfHour(hours.from + 1, zone) };
  if (hours.to - hours.from <= 14 * DAY) return hours;
  const lastDay = isMidnight(hours.to, zone) ? hours.to : addDays(hours.to, 1, zone);
  return { from: startOfDay(hours.from, zone), to: lastDay };
}

/** The last so many minutes, and the one that has begun. */
export function lastMinutes(minutes: number, now: number): Range {
  const to = Math.floor(now / MINUTE) * MINUTE + MINUTE;
  return { from: to - (minutes + 1) * MINUTE, to };
}

/** A range and the one before it, of the same length. */
export interface Comparison {
  readonly current: Range;
  readonly previous: Range;
}

/**
 * What of a range can be compared with the time before it: its complete days, or hours where it has edges within days.
 * An hour that has only begun would make every comparison look like a fall. `null` where nothing is complete yet.
 */
export function comparison(range: Range, now: number, zone: string): Comparison | null {
  const isByDay = isMidnight(range.from, zone) && isMidnight(range.to, zone);
  const complete = isByDay ? startOfDay(now, zone) : startOfHour(now, zone);
  const current = { from: range.from, to: Math.min(range.to, complete) };
  if (current.to <= current.from) return null;
  if (isMidnight(current.from, zone) && isMidnight(current.to, zone)) {
    const days = daysBetween(current.from, current.to, zone);
    return { current, previous: { from: addDays(current.from, -days, zone), to: current.from } };
  }
  if (isMidnight(current.from, zone) && current.to - current.from < DAY) {
    // A part of a day is compared with the same part of the day before, not with its evening.
    const before = addDays(current.from, -1, zone);
    return { current, previous: { from: before, to: startOfHour(before + current.to - current.from, zone) } };
  }
  return { current, previous: { from: startOfHour(2 * current.from - current.to, zone), to: current.from } };
}

const WIDTHS = ['1m', '5m', '1h', '1d'] as const;
export type Width = (typeof WIDTHS)[number];

const WIDTH_MS: Readonly<Record<Width, number>> = { '1m': MINUTE, '5m': 5 * MINUTE, '1h': HOUR, '1d': DAY };

/** As many points as a line can show without becoming a hedge. */
const MOST_POINTS = 400;

/** The narrowest buckets that make a readable picture and that a rollup with these dimensions has. */
export function bucketWidth(range: Range, measure: string, dimensions: readonly string[], rollups: readonly Rollup[], zone: string): Width {
  const length = range.to - range.from;
  const readable = WIDTHS.filter((width) => length / WIDTH_MS[width] <= MOST_POINTS || width === '1d');
  const fits = (width: Width): boolean =>
    rollups.some((rollup) => {
      const every = widthMs(rollup.every);
      return (
        rollup.measures.some(({ name }) => name === measure) &&
        dimensions.every((name) => rollup.dimensions.includes(name)) &&
        WIDTH_MS[width] % every === 0 &&
        (every < DAY || (isMidnight(range.from, zone) && isMidnight(range.to, zone)))
      );
    });
  // Where nothing fits, the server says why.
  return readable.find(fits) ?? readable[0] ?? '1d';
}

/** `1m`, `1h 30m`, `1d`, as the server writes widths; infinite where it is none. */
export function widthMs(text: string): number {
  const units: Readonly<Record<string, number>> = { s: 1_000, m: MINUTE, h: HOUR, d: DAY };
  const parts = text.split(' ').map((part) => {
    const [, count, unit] = /^(\d+)([smhd])/.exec(part) ?? [];
    return Number(count) * (units[unit ?? ''] ?? NaN);
  });
  const sum = parts.reduce((a, b) => a + b, 0);
  return Number.isFinite(sum) && sum > 0 ? sum : Infinity;
}

/** The starts of all buckets of a range, also those that have no records. */
export function buckets(range: Range, width: Width, zone: string): number[] {
  const starts: number[] = [];
  const next = (start: number): number => (width === '1d' ? addDays(start, 1, zone) : start + WIDTH_MS[width]);
  for (let start = range.from; start < range.to; start = next(start)) starts.push(start);
  return starts;
}

/** When the bucket that starts here ends. */
export function bucketEnd(start: number, width: Width, zone: string): number {
  return width === '1d' ? addDays(start, 1, zone) : start + WIDTH_MS[width];
}
