// The figures of the clicks page: the server's counts, and how they compare with the time before.
import { aggregate } from '../../api/question.ts';
import type { Stream, Table } from '../../api/types.ts';
import { single } from '../../data/table.ts';
import type { Format } from '../../i18n/format.ts';
import { useShared } from '../../ui/context.ts';
import { Change, Figure } from '../../ui/figure.tsx';
import { type Answer, useQuestion } from '../../ui/use_question.ts';
import { type Range, comparison, lastMinutes } from '../../view/period.ts';
import type { Filters } from '../../view/state.ts';
import { MINUTE } from '../../view/zone.ts';
import { keeps } from '../streams.ts';

interface Compared {
  readonly total: Answer<Table, null>;
  readonly current: Table | null;
  readonly previous: Table | null;
}

export interface ClickFiguresState {
  readonly clicks: Compared;
  readonly entries: Compared;
  /** `null`: the stream does not count sessions. */
  readonly sessions: Compared | null;
  readonly active: Answer<Table, null> | null;
  readonly before: Range | null;
  readonly isNothing: boolean;
}

/** Who has clicked so lately is there. */
const ACTIVE_MINUTES = 5;

interface Asked {
  readonly stream: Stream;
  readonly range: Range | null;
  readonly filters: Filters;
  readonly tick: number;
  readonly now: number;
}

export function useClickFigures(asked: Asked): ClickFiguresState {
  const { stream, range, now, filters } = asked;
  const clicks = useCompared(asked, 'clicks', filters);
  const entries = useCompared(asked, 'steps', { ...filters, referrer: [null] });
  const counts = keeps(stream, 'sessions', []);
  const sessions = useCompared({ ...asked, range: counts ? range : null }, 'sessions', filters);
  const recent = aggregate(stream.name, { range: lastMinutes(ACTIVE_MINUTES, now), measures: ['sessions'], filters });
  const active = useQuestion<Table, null>(counts ? recent : null, null, asked.tick);
  const { data, isWaiting } = clicks.total;
  return {
    clicks,
    entries,
    sessions: counts ? sessions : null,
    active: counts ? active : null,
    before: range === null ? null : (comparison(range, now, stream.timezone)?.previous ?? null),
    isNothing: data !== null && !isWaiting && !(Number(single(data, 'clicks')) > 0),
  };
}

function useCompared({ stream, range, tick, now }: Asked, measure: string, filters: Filters): Compared {
  const compared = range === null ? null : comparison(range, now, stream.timezone);
  const question = (of: Range | undefined | null): string | null =>
    of == null ? null : aggregate(stream.name, { range: of, measures: [measure], filters });
  const total = useQuestion<Table, null>(question(range), null, tick);
  const isWhole = compared !== null && compared.current.to === range?.to;
  const current = useQuestion<Table, null>(isWhole ? null : question(compared?.current), null, tick);
  const previous = useQuestion<Table, null>(question(compared?.previous), null, tick);
  return { total, current: isWhole ? total.data : current.data, previous: previous.data };
}

interface Properties {
  readonly figures: ClickFiguresState;
  readonly range: Range | null;
  readonly format: Format;
}

export function ClickFigures({ figures, range, format }: Properties) {
  const { texts, now } = useShared();
  const { clicks, entries, sessions, active, before } = figures;
  const count = (of: Table | null, measure: string): number | null => (of === null ? null : Number(single(of, measure) ?? 0));
  const shown = ({ data, error }: Answer<Table, null>, measure: string): string | null => {
    if (error?.isFinal === true) return '—';
    const total = count(data, measure);
    if (data === null || total === null) return null;
    const isEstimate = data.columns.some(({ name, approximate }) => name === measure && approximate === true);
    return `${isEstimate ? '≈ ' : ''}${format.integer(total)}`;
  };
  const change = (of: Compared, measure: string) => (
    <Change
      current={count(of.current, measure)}
      previous={count(of.previous, measure)}
      period={before === null ? null : format.range(before)}
      format={format}
    />
  );
  const minutes = range === null ? 0 : (Math.min(range.to, now) - range.from) / MINUTE;
  const total = count(clicks.total.data, 'clicks');
  return (
    <dl class="figures span-12" aria-label={texts.figures.label}>
      <Figure name="clicks" label={texts.figures.clicks} value={shown(clicks.total, 'clicks')} isStale={clicks.total.isWaiting}>
        {change(clicks, 'clicks')}
      </Figure>
      <Figure
        name="per-minute"
        label={texts.figures.perMinute}
        value={total === null || minutes <= 0 ? shown(clicks.total, 'clicks') && '—' : format.number(total / minutes)}
        isStale={clicks.total.isWaiting}
      />
      <Figure name="entries" label={texts.figures.steps} value={shown(entries.total, 'steps')} isStale={entries.total.isWaiting}>
        {change(entries, 'steps')}
      </Figure>
      {sessions !== null && (
        <Figure
          name="sessions"
          label={texts.figures.sessions}
          hint={texts.figures.estimate}
          value={shown(sessions.total, 'sessions')}
          isStale={sessions.total.isWaiting}
        >
          {change(sessions, 'sessions')}
        </Figure>
      )}
      {active !== null && (
        <Figure
          name="active"
          label={texts.figures.active}
          hint={texts.figures.estimate}
          value={shown(active, 'sessions')}
          isStale={active.isWaiting}
        >
          <span class="hint">{texts.figures.activeHint}</span>
        </Figure>
      )}
    </dl>
  );
}
