// Numbers, money, dates and durations as the reader writes them.
//
// Owns: one set of `Intl` formats per language and zone. Decimals are given as the text they are, so that no digit is lost.
// Does not own: words (`en`, `fr`).
import type { Cell } from '../api/types.ts';
import type { Kind } from '../data/sheet.ts';
import type { Range, Width } from '../view/period.ts';
import { DAY, daysBetween, isMidnight } from '../view/zone.ts';

export interface Format {
  /** Full, with cents. */
  money(amount: string | number): string;
  /** For an axis: 12 k€. */
  moneyShort(amount: number): string;
  integer(value: number): string;
  number(value: number): string;
  /** For an axis: 12 k. */
  short(value: number): string;
  percent(share: number): string;
  /** With its sign. */
  change(share: number): string;
  day(time: number): string;
  time(time: number): string;
  /** To the second. */
  moment(time: number): string;
  clock(time: number): string;
  /** A mark on a time axis. */
  mark(time: number, length: number): string;
  /** A bucket of this width. */
  bucket(time: number, width: Width): string;
  range(range: Range): string;
  weekday(index: number): string;
  hour(hour: number): string;
  duration(seconds: number): string;
  /** In powers of 1,000. */
  bytes(count: number): string;
  cell(value: Cell, kind: Kind): string;
}

const BYTES = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte'];

export function createFormat(locale: string, zone: string): Format {
  const numbers = (options: Intl.NumberFormatOptions): Intl.NumberFormat => new Intl.NumberFormat(locale, options);
  const dates = (options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat =>
    new Intl.DateTimeFormat(locale, { timeZone: zone, hourCycle: 'h23', ...options });
  const euro = { style: 'currency', currency: 'EUR' } as const;
  const money = numbers(euro);
  const moneyShort = numbers({ ...euro, notation: 'compact', maximumFractionDigits: 1, minimumFractionDigits: 0 });
  const integer = numbers({ maximumFractionDigits: 0 });
  const number = numbers({ maximumFractionDigits: 1 });
  const short = numbers({ notation: 'compact', maximumFractionDigits: 1 });
  const percent = numbers({ style: 'percent', maximumFractionDigits: 1 });
  const change = numbers({ style: 'percent', maximumFractionDigits: 1, signDisplay: 'exceptZero' });
  const day = dates({ day: 'numeric', month: 'long', year: 'numeric' });
  const days = dates({ day: 'numeric', month: 'short', year: 'numeric' });
  const dayShort = dates({ day: 'numeric', month: 'short' });
  const dayLong = dates({ weekday: 'short', day: 'numeric', month: 'short', year: 'numeric' });
  const month = dates({ month: 'short', year: 'numeric' });
  const clock = dates({ hour: '2-digit', minute: '2-digit' });
  const seconds = dates({ hour: '2-digit', minute: '2-digit', second: '2-digit' });
  const time = dates({ day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });
  const moment = dates({ day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit', second: '2-digit' });
  const timeLong = dates({ day: 'numeric', month: 'short', year: 'numeric', hour: '2-digit', minute: '2-digit' });
  const weekdays = new Intl.DateTimeFormat(locale, { timeZone: 'UTC', weekday: 'short' });
  const units = (unit: string, value: number): string =>
    numbers({ style: 'unit', unit, unitDisplay: 'short', maximumFractionDigits: value < 10 ? 1 : 0 }).format(value);

  const format: Format = {
    // The standard takes exact decimals as text; the compiler's library wants to see a literal.
    money: (amount) => money.format(amount as number),
    moneyShort: (amount) => moneyShort.format(amount),
    integer: (value) => integer.format(value),
    number: (value) => number.format(value),
    short: (value) => short.format(value),
    percent: (share) => percent.format(share),
    change: (share) => change.format(share),
    day: (at) => day.format(at),
    time: (at) => time.format(at),
    moment: (at) => moment.format(at),
    clock: (at) => seconds.format(at),
    mark: (at, length) => {
      if (!isMidnight(at, zone)) return clock.format(at);
      return length <= 200 * DAY ? dayShort.format(at) : month.format(at);
    },
    bucket: (at, width) => (width === '1d' ? dayLong.format(at) : time.format(at)),
    range: ({ from, to }) => {
      if (isMidnight(from, zone) && isMidnight(to, zone)) {
        return daysBetween(from, to, zone) === 1 ? day.format(from) : days.formatRange(from, to - 1);
      }
      return timeLong.formatRange(from, to);
    },
    // 5 January 1970 was a Monday.
    weekday: (index) => weekdays.format((4 + index) * DAY),
    hour: (hour) => String(hour).padStart(2, '0'),
    duration: (value) => {
      if (value < 90) return units('second', value);
      if (value < 90 * 60) return units('minute', value / 60);
      return value < 48 * 3_600 ? units('hour', value / 3_600) : units('day', value / 86_400);
    },
    bytes: (count) => {
      const power = Math.min(BYTES.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, count)) / 3)));
      return units(BYTES[power] ?? 'byte', count / 1_000 ** power);
    },
    cell: (value, kind) => {
      if (value === null) return '—';
      switch (kind) {
        case 'money':
          return format.money(String(value));
        case 'integer':
          return format.integer(Number(value));
        case 'number':
          return format.number(Number(value));
        case 'percent':
          return format.percent(Number(value));
        case 'time':
          return timeLong.format(Date.parse(String(value)));
        case 'day':
          return dayLong.format(Date.parse(String(value)));
        case 'text':
          return String(value);
      }
    },
  };
  return format;
}
