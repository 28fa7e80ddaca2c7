// Choosing what is looked at: a control per field, and what is chosen as chips.
//
// Owns: the controls, and asking which values there are. Does not own: what a filter does (`view/state`).
import { useId, useState } from 'preact/hooks';
import { aggregate } from '../api/question.ts';
import type { Table } from '../api/types.ts';
import { text, values } from '../data/table.ts';
import type { Range } from '../view/period.ts';
import { FIELDS, type Field, toggled } from '../view/state.ts';
import { useShared } from './context.ts';
import { useQuestion } from './use_question.ts';

interface Properties {
  readonly stream: string;
  readonly measure: string;
  readonly range: Range | null;
  /** `isMany`: to be typed rather than chosen from a list. */
  readonly fields: readonly { readonly field: Field; readonly isMany: boolean }[];
}

const MOST_VALUES = 2_000;

export function FilterBar({ stream, measure, range, fields }: Properties) {
  const { texts } = useShared();
  return (
    <div class="filters" role="group" aria-label={texts.filter.label}>
      {fields.map(({ field, isMany }) =>
        isMany ? (
          <Typed key={field} {...{ stream, measure, range, field }} />
        ) : (
          <Listed key={field} {...{ stream, measure, range, field }} />
        ),
      )}
    </div>
  );
}

interface FieldProperties {
  readonly stream: string;
  readonly measure: string;
  readonly range: Range | null;
  readonly field: Field;
}

/** Values that the period has. */
function useValues({ stream, measure, range, field }: FieldProperties, isWanted: boolean): readonly string[] {
  const question = range !== null && isWanted ? aggregate(stream, { range, measures: [measure], by: [field], limit: MOST_VALUES }) : null;
  const { data } = useQuestion<Table, null>(question, null, 0);
  return data === null ? [] : values(data, field).flatMap((value) => text(value) ?? []);
}

function Listed(properties: FieldProperties) {
  const { texts, view, go } = useShared();
  const { field } = properties;
  const known = useValues(properties, true);
  const chosen = view.filters[field] ?? [];
  const choose = (value: string): void => {
    if (value !== '') go({ filters: toggled(view.filters, field, value) });
  };
  return (
    <label class="filter">
      <span class="hidden">{texts.filter[field]}</span>
      <select value="" onChange={(event) => choose(event.currentTarget.value)}>
        <option value="">{chosen.length === 0 ? texts.filter.all[field] : `${texts.filter[field]} (${chosen.length})`}</option>
        {known
          .filter((value) => value !== '')
          .map((value) => (
            <option key={value} value={value}>
              {chosen.includes(value) ? `✓ ${value}` : value}
            </option>
          ))}
      </select>
    </label>
  );
}

function Typed(properties: FieldProperties) {
  const { texts, view, go } = useShared();
  const { field } = properties;
  const [isWanted, setIsWanted] = useState(false);
  const [typed, setTyped] = useState('');
  const known = useValues(properties, isWanted);
  const id = useId();
  const changed = (value: string): void => {
    if (!known.includes(value)) {
      setTyped(value);
      return;
    }
    setTyped('');
    go({ filters: toggled(view.filters, field, value) });
  };
  return (
    <label class="filter">
      <span class="hidden">{texts.filter[field]}</span>
      <input
        type="text"
        list={id}
        value={typed}
        placeholder={texts.filter.all[field]}
        autocomplete="off"
        onFocus={() => setIsWanted(true)}
        onInput={(event) => changed(event.currentTarget.value)}
      />
      <datalist id={id}>
        {known.map((value) => (
          <option key={value} value={value} />
        ))}
      </datalist>
    </label>
  );
}

export function Chips() {
  const { texts, view, go } = useShared();
  const active = FIELDS.flatMap((field) => (view.filters[field] ?? []).map((value) => ({ field, value })));
  if (active.length === 0) return null;
  return (
    <ul class="chips" aria-label={texts.filter.active}>
      {active.map(({ field, value }) => {
        const shown = value ?? texts.filter.none;
        return (
          <li key={`${field}:${shown}`}>
            <button type="button" class="chip" aria-label={texts.filter.remove(texts.filter[field], shown)} onClick={() => go({ filters: toggled(view.filters, field, value) })}>
              <span class="chip-field">{texts.filter[field]}</span> {shown} <span aria-hidden="true">×</span>
            </button>
          </li>
        );
      })}
      <li>
        <button type="button" class="link" onClick={() => go({ filters: {} })}>
          {texts.filter.clear}
        </button>
      </li>
    </ul>
  );
}
