// Reading the server's tables.
//
// Owns: access by column name, and the conversion of a cell to a number for drawing. Does not own: their shape (`api/types`).
import type { Cell, Table } from '../api/types.ts';

export function indexOf(table: Table, column: string): number {
  const index = table.columns.findIndex(({ name }) => name === column);
  if (index < 0) throw new Error(`the answer has no column ${column}`);
  return index;
}

/** The values of a column, from top to bottom. */
export function values(table: Table, column: string): Cell[] {
  const index = indexOf(table, column);
  return table.rows.map((row) => row[index] ?? null);
}

/** The only row's value; `null` where there is no row. */
export function single(table: Table, column: string): Cell {
  return values(table, column)[0] ?? null;
}

/** For drawing only: a decimal loses digits here. Nothing is zero. */
export function drawn(cell: Cell | undefined): number {
  const number = Number(cell ?? 0);
  return Number.isFinite(number) ? number : 0;
}

/** A value as text; `null` stays what it is: a record without one. */
export function text(cell: Cell | undefined): string | null {
  return cell === null || cell === undefined ? null : String(cell);
}
