// The calendar of a time zone: what its clocks show, and when they show it.
//
// Owns: the arithmetic of days and hours across changes of the clocks, on top of `Intl`.
// Does not own: what periods mean (`period`), how times are shown (`i18n/format`).

export const SECOND = 1_000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/** What the clocks show. */
export interface Wall {
  readonly year: number;
  /** 1 to 12. */
  readonly month: number;
  readonly day: number;
  readonly hour: number;
  readonly minute: number;
  readonly second: number;
}

const clocks = new Map<string, Intl.DateTimeFormat>();

export function wall(time: number, zone: string): Wall {
  let clock = clocks.get(zone);
  if (clock === undefined) {
    clock = new Intl.DateTimeFormat('en-GB', {
      timeZone: zone,
      calendar: 'gregory',
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    });
    clocks.set(zone, clock);
  }
  const shown: Record<string, number> = {};
  for (const part of clock.formatToParts(time)) shown[part.type] = Number(part.value);
  const part = (name: keyof Wall): number => shown[name] ?? 0;
  return {
    year: part('year'),
    month: part('month'),
    day: part('day'),
    hour: part('hour'),
    minute: part('minute'),
    second: part('second'),
  };
}

/** 0 = Monday … 6 = Sunday. */
export function weekday(shown: Wall): number {
  return (new Date(Date.UTC(shown.year, shown.month - 1, shown.day)).getUTCDay() + 6) % 7;
}

/**
 * When the clocks show this. Days and months beyond their ends roll over. The first of two such times;
 * where the clocks leap over it, the time after the leap.
 */
export function instant(year: number, month: number, day: number, hour: number, minute: number, zone: string): number {
  const asUtc = Date.UTC(year, month - 1, day, hour, minute);
  const guesses = [asUtc - offset(asUtc - DAY, zone), asUtc - offset(asUtc + DAY, zone)];
  const fitting = guesses.filter((guess) => guess + offset(guess, zone) === asUtc);
  return fitting.length > 0 ? Math.min(...fitting) : Math.max(...guesses);
}

export function startOfHour(time: number, zone: string): number {
  const shown = wall(time, zone);
  return Math.floor(time / SECOND) * SECOND - shown.minute * MINUTE - shown.second * SECOND;
}

/** The time itself where it is a whole hour. */
export function endOfHour(time: number, zone: string): number {
  const start = startOfHour(time, zone);
  return start === time ? time : startOfHour(start + HOUR, zone);
}

export function startOfDay(time: number, zone: string): number {
  return addDays(time, 0, zone);
}

export function isMidnight(time: number, zone: string): boolean {
  return startOfDay(time, zone) === time;
}

/** The midnight so many days after that of the time's own day. */
export function addDays(time: number, days: number, zone: string): number {
  const shown = wall(time, zone);
  return instant(shown.year, shown.month, shown.day + days, 0, 0, zone);
}

/** The midnight so many months after that of the time's own day; of a shorter month its last day. */
export function addMonths(time: number, months: number, zone: string): number {
  const shown = wall(time, zone);
  const lastDay = new Date(Date.UTC(shown.year, shown.month - 1 + months + 1, 0)).getUTCDate();
  return instant(shown.year, shown.month + months, Math.min(shown.day, lastDay), 0, 0, zone);
}

/** Whole days between the midnights of two times. */
export function daysBetween(from: number, to: number, zone: string): number {
  const [a, b] = [wall(from, zone), wall(to, zone)];
  return Math.round((Date.UTC(b.year, b.month - 1, b.day) - Date.UTC(a.year, a.month - 1, a.day)) / DAY);
}

/** What is to be added to UTC to get what the clocks show. */
function offset(time: number, zone: string): number {
  const shown = wall(time, zone);
  const asUtc = Date.UTC(shown.year, shown.month - 1, shown.day, shown.hour, shown.minute, shown.second);
  return asUtc - Math.floor(time / SECOND) * SECOND;
}
