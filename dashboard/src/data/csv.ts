// Tables as CSV (RFC 4180), for spreadsheets.
//
// Owns: quoting. Text that a spreadsheet would run as a formula gets an apostrophe before it: names come from records,
// and records from anywhere.

export type CsvCell = string | number | boolean | null;

/** With a byte order mark, without which Excel takes UTF-8 for something else. */
export function csv(header: readonly string[], rows: readonly (readonly CsvCell[])[]): string {
  const lines = [header, ...rows].map((row) => row.map(field).join(','));
  return `\uFEFF${lines.join('\r\n')}\r\n`;
}

function field(cell: CsvCell): string {
  if (cell === null) return '';
  if (typeof cell !== 'string') return String(cell);
  const harmless = /^[=+@\t\r-]/.test(cell) && !isNumber(cell) ? `'${cell}` : cell;
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}

/** A decimal is text too, and may be negative. */
function isNumber(text: string): boolean {
  return /^-?\d+(\.\d+)?$/.test(text);
}
