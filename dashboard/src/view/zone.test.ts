import { describe, expect, it } from 'vitest';
import { HOUR, addDays, addMonths, daysBetween, endOfHour, instant, isMidnight, startOfDay, startOfHour, wall, weekday } from './zone.ts';

const at = (text: string): number => Date.parse(text);
const PARIS = 'Europe/Paris';

describe('the calendar of a zone', () => {
  it('shows what the clocks show', () => {
    const shown = wall(at('2026-06-30T22:05:09Z'), PARIS);
    expect(shown).toEqual({ year: 2026, month: 7, day: 1, hour: 0, minute: 5, second: 9 });
    expect(weekday(shown)).toBe(2);
    expect(weekday(wall(at('2026-01-04T12:00:00Z'), 'UTC'))).toBe(6);
  });

  it('finds the time again', () => {
    expect(instant(2026, 1, 15, 8, 0, PARIS)).toBe(at('2026-01-15T07:00:00Z'));
    expect(instant(2026, 7, 15, 8, 0, PARIS)).toBe(at('2026-07-15T06:00:00Z'));
    expect(instant(2026, 1, 32, 0, 0, 'UTC')).toBe(at('2026-02-01T00:00:00Z'));
  });

  it('takes the first of two times, and what follows a leap', () => {
    // Sunday 25 October 2026: three o'clock becomes two o'clock.
    expect(instant(2026, 10, 25, 2, 0, PARIS)).toBe(at('2026-10-25T00:00:00Z'));
    // Sunday 29 March 2026: two o'clock becomes three o'clock.
    expect(instant(2026, 3, 29, 2, 0, PARIS)).toBe(at('2026-03-29T01:00:00Z'));
    // Where a day begins at one o'clock.
    expect(startOfDay(at('2018-11-04T12:00:00Z'), 'America/Sao_Paulo')).toBe(at('2018-11-04T03:00:00Z'));
  });

  it('has days of 23 and 25 hours', () => {
    const spring = instant(2026, 3, 29, 0, 0, PARIS);
    const autumn = instant(2026, 10, 25, 0, 0, PARIS);
    expect(addDays(spring, 1, PARIS) - spring).toBe(23 * HOUR);
    expect(addDays(autumn, 1, PARIS) - autumn).toBe(25 * HOUR);
    expect(addDays(autumn, -1, PARIS)).toBe(at('2026-10-23T22:00:00Z'));
    expect(daysBetween(spring, autumn, PARIS)).toBe(210);
  });

  it('rounds to hours, also in a zone of half hours', () => {
    const time = at('2026-01-15T10:47:31.250Z');
    expect(startOfHour(time, 'UTC')).toBe(at('2026-01-15T10:00:00Z'));
    expect(startOfHour(time, 'Asia/Kolkata')).toBe(at('2026-01-15T10:30:00Z'));
    expect(endOfHour(time, 'Asia/Kolkata')).toBe(at('2026-01-15T11:30:00Z'));
    expect(endOfHour(at('2026-01-15T10:00:00Z'), 'UTC')).toBe(at('2026-01-15T10:00:00Z'));
  });

  it('knows midnight', () => {
    expect(isMidnight(at('2026-06-30T22:00:00Z'), PARIS)).toBe(true);
    expect(isMidnight(at('2026-07-01T00:00:00Z'), PARIS)).toBe(false);
  });

  it('has months of several lengths', () => {
    expect(addMonths(at('2026-03-31T10:00:00Z'), -1, 'UTC')).toBe(at('2026-02-28T00:00:00Z'));
    expect(addMonths(at('2026-01-15T10:00:00Z'), -12, 'UTC')).toBe(at('2025-01-15T00:00:00Z'));
  });
});
