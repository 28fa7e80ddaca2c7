// The table behind a picture: the same values for those who do not see it, and filters for those without a mouse.
//
// Owns: how a sheet is laid out. Does not own: its values (`data/sheet`).
import type { Kind, Sheet } from '../data/sheet.ts';
import type { Format } from '../i18n/format.ts';
import { isFiltered, toggled } from '../view/state.ts';
import { useShared } from './context.ts';

/** More make a page slow and no one wiser; all are in the CSV. */
const MOST_ROWS = 200;

interface Properties {
  readonly sheet: Sheet;
  readonly caption: string;
  readonly format: Format;
}

export function SheetTable({ sheet, caption, format }: Properties) {
  const { texts } = useShared();
  const rest = sheet.rows.length - MOST_ROWS;
  const rows = sheet.isTimeline === true ? [...sheet.rows].reverse() : sheet.rows;
  return (
    <div class="table" role="region" aria-label={caption} tabIndex={0}>
      <table>
        <caption class="hidden">{caption}</caption>
        <thead>
          <tr>
            {sheet.columns.map(({ name, label, kind }) => (
              <th key={name} scope="col" class={isNumber(kind) ? 'is-number' : ''}>
                {label}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.slice(0, MOST_ROWS).map((row, index) => (
            <tr key={index}>
              {sheet.columns.map(({ name, kind }, column) => {
                const shown = format.cell(row[column] ?? null, kind);
                return (
                  <td key={name} class={isNumber(kind) ? 'is-number' : ''}>
                    {column === 0 && sheet.picks !== undefined ? <PickButton sheet={sheet} index={index} shown={shown} /> : shown}
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
      {rest > 0 && <p class="hint">{texts.card.more(format.integer(rest))}</p>}
    </div>
  );
}

function isNumber(kind: Kind): boolean {
  return kind !== 'text' && kind !== 'time' && kind !== 'day';
}

function PickButton({ sheet, index, shown }: { readonly sheet: Sheet; readonly index: number; readonly shown: string }) {
  const { texts, view, go } = useShared();
  if (sheet.picks === undefined) return null;
  const { field, values } = sheet.picks;
  const value = values[index] ?? null;
  return (
    <button
      type="button"
      class="link"
      aria-pressed={isFiltered(view.filters, field, value)}
      title={texts.filter.pick(shown)}
      onClick={() => go({ filters: toggled(view.filters, field, value) })}
    >
      {value ?? texts.filter.none}
    </button>
  );
}
