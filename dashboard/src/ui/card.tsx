// A card: a title, what it shows, and what can be taken away from it.
//
// Owns: the states that every answer can be in (waiting, empty, refused, failed with the old picture kept), the table behind
// the picture, PNG and CSV. Does not own: the picture (`charts`), asking (`use_question`).
import type { EChartsOption } from 'echarts';
import type { ComponentChildren } from 'preact';
import { useId, useRef, useState } from 'preact/hooks';
import type { ApiError } from '../api/client.ts';
import { Chart, type ChartHandle, type Pick } from '../charts/chart.tsx';
import { type Sheet, sheetCsv } from '../data/sheet.ts';
import type { Format } from '../i18n/format.ts';
import { FIELDS, without } from '../view/state.ts';
import { useShared } from './context.ts';
import { saveText, saveUrl } from './save.ts';
import { SheetTable } from './sheet_table.tsx';

/** The part of an answer that a card cares for. */
export interface Status {
  readonly data: unknown;
  readonly error: ApiError | null;
  readonly isWaiting: boolean;
}

interface Picture {
  readonly option: EChartsOption;
  readonly height: number;
  readonly onPick?: ((pick: Pick) => void) | undefined;
  readonly onZoom?: ((first: number, last: number) => void) | undefined;
}

interface Properties {
  readonly title: string;
  readonly hint?: string | undefined;
  /** Columns of twelve. */
  readonly span: 4 | 5 | 6 | 7 | 8 | 12;
  /** Of files, without its extension. */
  readonly file: string;
  readonly status: Status;
  /** There is an answer, and it is nothing. */
  readonly isEmpty: boolean;
  readonly empty?: string | undefined;
  readonly sheet: Sheet | null;
  readonly format: Format;
  readonly picture?: Picture | null;
  /** The table is what is shown, not what lies behind a picture. */
  readonly isTable?: boolean;
  /** Instead of a picture, or below it. */
  readonly children?: ComponentChildren;
}

export function Card(card: Properties) {
  const { texts } = useShared();
  const id = useId();
  const chart = useRef<ChartHandle>(null);
  const [isOpen, setIsOpen] = useState(false);
  const { status, sheet, picture, isTable = false } = card;
  const isShown = status.data !== null && !(status.error?.isFinal ?? false);
  const hasContent = isShown && !card.isEmpty;
  const savePng = (): void => {
    const url = chart.current?.png();
    if (url != null) saveUrl(`${card.file}.png`, url);
  };
  return (
    <section class={`card span-${card.span}`} aria-labelledby={`${id}-title`} aria-busy={status.isWaiting}>
      <header class="card-head">
        <div>
          <h2 id={`${id}-title`}>{card.title}</h2>
          {card.hint !== undefined && <p class="hint">{card.hint}</p>}
        </div>
        {hasContent && sheet !== null && (
          <div class="tools">
            {!isTable && (
              <button type="button" aria-expanded={isOpen} aria-controls={`${id}-table`} aria-label={texts.card.showTable(card.title)} onClick={() => setIsOpen(!isOpen)}>
                {texts.card.table}
              </button>
            )}
            {picture != null && (
              <button type="button" aria-label={texts.card.savePng(card.title)} onClick={savePng}>
                {texts.card.png}
              </button>
            )}
            <button type="button" aria-label={texts.card.saveCsv(card.title)} onClick={() => saveText(`${card.file}.csv`, sheetCsv(sheet))}>
              {texts.card.csv}
            </button>
          </div>
        )}
      </header>
      {status.error !== null && !status.error.isFinal && <Trouble error={status.error} hasOld={isShown} />}
      {status.error?.isFinal === true && <Refused error={status.error} />}
      {status.data === null && status.error === null && <Waiting height={picture?.height} />}
      {isShown && card.isEmpty && <p class="note">{card.empty ?? texts.states.empty}</p>}
      {hasContent && (
        <div class={status.isWaiting ? 'content is-stale' : 'content'}>
          {picture != null && <Chart {...picture} label={`${card.title}. ${texts.card.showTable(card.title)}.`} handle={chart} />}
          {card.children}
        </div>
      )}
      {hasContent && sheet !== null && (
        <div id={`${id}-table`} hidden={!isOpen && !isTable}>
          {(isOpen || isTable) && <SheetTable sheet={sheet} caption={card.title} format={card.format} />}
        </div>
      )}
    </section>
  );
}

function Waiting({ height = 120 }: { readonly height?: number | undefined }) {
  const { texts } = useShared();
  return (
    <div class="waiting" style={{ minHeight: `${height}px` }}>
      <span class="hidden">{texts.states.loading}</span>
    </div>
  );
}

/** It is tried again: the old picture stays, and is said to be old. */
function Trouble({ error, hasOld }: { readonly error: ApiError; readonly hasOld: boolean }) {
  const { texts } = useShared();
  return (
    <p class="note is-warning" role="status">
      {error.code === 'too_slow' ? texts.states.tooSlow : texts.states.failed} {hasOld && texts.states.stale}
    </p>
  );
}

/** The question itself is the matter: what can be changed about it. */
function Refused({ error }: { readonly error: ApiError }) {
  const { texts, view, go } = useShared();
  const isNotKept = error.code === 'not_answerable';
  const active = FIELDS.filter((field) => view.filters[field] !== undefined);
  return (
    <div class="note" role="status">
      <p>
        <strong>{isNotKept ? texts.states.notAnswerable : texts.states.refused}</strong>
      </p>
      {isNotKept && <p>{texts.states.notAnswerableHint}</p>}
      <p class="buttons">
        {active.map((field) => (
          <button key={field} type="button" class="plain" onClick={() => go({ filters: without(view.filters, field) })}>
            {texts.states.removeFilter(texts.filter[field])}
          </button>
        ))}
      </p>
      <details>
        <summary>{texts.states.details}</summary>
        <p class="hint">{error.message}</p>
      </details>
    </div>
  );
}
