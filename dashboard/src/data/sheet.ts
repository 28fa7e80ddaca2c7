// What a picture shows, as rows and columns: for the table behind it and for its CSV.
//
// Owns: the form. The values stay as the server wrote them; formatting is done where they are shown.
import type { Cell } from '../api/types.ts';
import type { Value } from '../view/state.ts';
import { csv } from './csv.ts';

export type Kind = 'text' | 'money' | 'integer' | 'number' | 'percent' | 'time' | 'day';

export interface SheetColumn {
  /** In the CSV. */
  readonly name: string;
  /** On the page. */
  readonly label: string;
  readonly kind: Kind;
}

export interface Sheet {
  readonly columns: readonly SheetColumn[];
  readonly rows: readonly (readonly Cell[])[];
  /** The rows ascend in time: a table begins with the newest, a file with the oldest. */
  readonly isTimeline?: true;
  /** What choosing a row filters by. */
  readonly picks?: { readonly field: string; readonly values: readonly Value[] };
}

export function sheetCsv(sheet: Sheet): string {
  return csv(
    sheet.columns.map(({ name }) => name),
    sheet.rows,
  );
}
