// What the pages with records share: rows as bars, and the series of a measure over time.
//
// Owns: turning an answer into what `charts` draws and `sheet` lists. Does not own: asking, drawing.
import type { Cell, Table } from '../api/types.ts';
import type { Bar } from '../charts/ranking.ts';
import type { TimeLine } from '../charts/line.ts';
import type { Sheet, SheetColumn } from '../data/sheet.ts';
import { drawn, text, values } from '../data/table.ts';
import type { Format } from '../i18n/format.ts';
import { type Range, type Width, bucketEnd, buckets } from '../view/period.ts';
import { marks } from '../view/marks.ts';
import { type Filters, type Value, isFiltered } from '../view/state.ts';

/** Below a time axis. */
const MOST_MARKS = 8;

export interface Series {
  readonly starts: readonly number[];
  readonly marks: ReadonlySet<number>;
  /** As the server wrote them; a bucket without records is zero. */
  readonly cells: readonly Cell[];
  readonly complete: number;
}

/** Every bucket of the range that has begun. */
export function series(table: Table, measure: string, range: Range, width: Width, now: number, zone: string): Series {
  const times = values(table, 't').map((time) => Date.parse(String(time)));
  const found = new Map(values(table, measure).map((cell, index) => [times[index] ?? NaN, cell]));
  // A record may lie ahead of this clock: what there is, is shown.
  const last = Math.max(now, ...times);
  const starts = buckets(range, width, zone).filter((start) => start <= last);
  return {
    starts,
    marks: marks(starts, zone, MOST_MARKS),
    cells: starts.map((start) => found.get(start) ?? 0),
    complete: starts.filter((start) => bucketEnd(start, width, zone) <= now).length,
  };
}

export function seriesSheet(shown: Series, column: SheetColumn, time: string): Sheet {
  return {
    isTimeline: true,
    columns: [{ name: 't', label: time, kind: 'time' }, column],
    rows: shown.starts.map((start, index) => [new Date(start).toISOString(), shown.cells[index] ?? null]),
  };
}

export function seriesLine(shown: Series, rest: Omit<TimeLine, 'starts' | 'marks' | 'values' | 'complete'>): TimeLine {
  return { ...rest, starts: shown.starts, marks: shown.marks, values: shown.cells.map(drawn), complete: shown.complete };
}

export interface Ranked {
  readonly keys: readonly Value[];
  readonly bars: readonly Bar[];
}

interface Ranking {
  readonly table: Table;
  readonly field: string;
  readonly measure: string;
  readonly filters: Filters;
  readonly none: string;
  readonly shown: (cell: Cell) => string;
  /** Another measure, for the tooltip. */
  readonly more?: { readonly measure: string; readonly label: string; readonly shown: (cell: Cell) => string };
}

/** The rows of an answer by one dimension, in the server's order. */
export function ranked({ table, field, measure, filters, none, shown, more }: Ranking): Ranked {
  const keys = values(table, field).map(text);
  const others = more === undefined ? [] : values(table, more.measure);
  const bars = values(table, measure).map((cell, index): Bar => {
    const key = keys[index] ?? null;
    return {
      label: key ?? none,
      value: drawn(cell),
      shown: shown(cell),
      isDimmed: filters[field] !== undefined && !isFiltered(filters, field, key),
      ...(more === undefined ? {} : { more: [[more.label, more.shown(others[index] ?? null)]] }),
    };
  });
  return { keys, bars };
}

/** An answer as it is, its first column choosing a filter where it is a dimension. */
export function tableSheet(table: Table, columns: readonly SheetColumn[], field: string | null): Sheet {
  const rows = columns.map(({ name }) => values(table, name));
  const sheet = { columns, rows: table.rows.map((_, index) => rows.map((column) => column[index] ?? null)) };
  return field === null ? sheet : { ...sheet, picks: { field, values: values(table, field).map(text) } };
}

/** Reads a measure for people. */
export function reader(measure: string, format: Format): (cell: Cell) => string {
  return (cell) => format.cell(cell, measure === 'revenue' ? 'money' : 'integer');
}

export function axisReader(measure: string, format: Format): (value: number) => string {
  return measure === 'revenue' ? (value) => format.moneyShort(value) : (value) => format.short(value);
}
