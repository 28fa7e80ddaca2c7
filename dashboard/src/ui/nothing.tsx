// Instead of a page that has nothing to show: why, and the way to what there is.
import type { Stream, Table } from '../api/types.ts';
import { single } from '../data/table.ts';
import type { Format } from '../i18n/format.ts';
import { newest30Days } from '../view/period.ts';
import { useShared } from './context.ts';
import { newestDay } from './use_period.ts';
import { useQuestion } from './use_question.ts';

export function Notice({ title, hint }: { readonly title: string; readonly hint?: string }) {
  return (
    <section class="card span-12 notice">
      <h2>{title}</h2>
      {hint !== undefined && <p class="hint">{hint}</p>}
    </section>
  );
}

interface Properties {
  readonly stream: Stream;
  readonly measure: string;
  readonly format: Format;
  readonly isFiltered: boolean;
}

/** The chosen period has no records: offers the newest ones. */
export function EmptyPeriod({ stream, measure, format, isFiltered }: Properties) {
  const { texts, go, now } = useShared();
  const { data } = useQuestion<Table, null>(newestDay(stream, measure, now), null, 0);
  const day = data === null ? null : single(data, 't');
  const newest = day === null ? null : Date.parse(String(day));
  return (
    <section class="card span-12 notice" role="status">
      <h2>{isFiltered ? texts.states.emptyFiltered : texts.states.emptyPeriod}</h2>
      {newest !== null && <p class="hint">{texts.states.newest(format.day(newest))}</p>}
      <p class="buttons">
        {newest !== null && (
          <button type="button" class="primary" onClick={() => go({ period: newest30Days(newest, stream.timezone) })}>
            {texts.states.jump}
          </button>
        )}
        {isFiltered && (
          <button type="button" class="plain" onClick={() => go({ filters: {} })}>
            {texts.filter.clear}
          </button>
        )}
      </p>
    </section>
  );
}
