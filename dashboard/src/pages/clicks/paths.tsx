// Browsing paths: all of them, or those through the pages that are filtered by.
import { useMemo } from 'preact/hooks';
import { aggregate } from '../../api/question.ts';
import type { Table } from '../../api/types.ts';
import { sankey } from '../../charts/sankey.ts';
import { type Flow, type Node, type Step, flow, through } from '../../data/paths.ts';
import type { Sheet } from '../../data/sheet.ts';
import { drawn, text, values } from '../../data/table.ts';
import { Card } from '../../ui/card.tsx';
import { useShared } from '../../ui/context.ts';
import { type Answer, useQuestion } from '../../ui/use_question.ts';
import { useIsNarrow } from '../../ui/use_is_narrow.ts';
import { toggled, without } from '../../view/state.ts';
import type { Part } from '../part.ts';

/** The rarest steps are too thin to be seen, and an answer with all of them is large. */
const MOST_STEPS = 5_000;
const MOST_NODES = 12;

export function Paths({ stream, range, filters, tick, format }: Part) {
  const { view, texts, theme, go } = useShared();
  const isNarrow = useIsNarrow();
  const chosen = filters.page;
  const pages = useMemo(() => (chosen ?? []).filter((page) => page !== null), [chosen]);
  const ask = { range, measures: ['steps'], by: ['referrer', 'page'], order: '-steps', limit: MOST_STEPS };
  const into = useQuestion<Table, null>(aggregate(stream.name, { ...ask, filters }), null, tick);
  const others = without(filters, 'page');
  const outOf = useQuestion<Table, null>(
    pages.length === 0 ? null : aggregate(stream.name, { ...ask, filters: { ...others, referrer: pages } }),
    null,
    tick,
  );
  const shown = useMemo((): Flow | null => {
    if (into.data === null) return null;
    if (pages.length === 0) return flow(steps(into.data), MOST_NODES);
    return outOf.data === null ? null : through(steps(into.data), steps(outOf.data), pages, MOST_NODES);
  }, [into.data, outOf.data, pages]);
  const words = useMemo(() => {
    const name = (page: Node['page']): string => (page === undefined ? texts.charts.outside : (page ?? texts.charts.nowhere));
    return { name, count: (count: number) => format.integer(count), measure: texts.columns.steps };
  }, [texts, format]);
  const option = useMemo(() => (shown === null ? null : sankey(shown, words, isNarrow, theme)), [shown, words, isNarrow, theme]);
  const pick = (id: string): void => {
    const page = shown?.nodes.find((node) => node.id === id)?.page;
    // What stands for several pages cannot be filtered by.
    if (typeof page === 'string' && page.startsWith('/') && !page.endsWith('…')) {
      go({ filters: toggled(view.filters, 'page', page) });
    }
  };
  const isCut = into.data?.complete === false;
  return (
    <Card
      title={texts.charts.paths}
      hint={isCut ? `${texts.charts.pathsHint} · ${texts.charts.pathsCut(format.integer(MOST_STEPS))}` : texts.charts.pathsHint}
      span={12}
      file={`${stream.name}-paths`}
      status={both(into, outOf, pages.length > 0)}
      isEmpty={shown?.links.length === 0}
      format={format}
      sheet={into.data === null ? null : pathSheet([into.data, ...(pages.length > 0 && outOf.data !== null ? [outOf.data] : [])], texts.columns)}
      picture={option === null ? null : { option, height: 460, onPick: ({ name, kind }) => kind === 'node' && pick(name) }}
    />
  );
}

function steps(table: Table): Step[] {
  const [from, to, counts] = [values(table, 'referrer'), values(table, 'page'), values(table, 'steps')];
  return to.map((page, index) => ({ from: text(from[index]), to: text(page) ?? '', count: drawn(counts[index]) }));
}

type Asked = Answer<Table, null>;

/** One status of two answers, of which the second may not be needed. */
function both(first: Asked, second: Asked, isSecondNeeded: boolean): Pick<Asked, 'data' | 'error' | 'isWaiting'> {
  if (!isSecondNeeded) return first;
  return {
    data: second.data === null ? null : first.data,
    error: first.error ?? second.error,
    isWaiting: first.isWaiting || second.isWaiting,
  };
}

function pathSheet(tables: readonly Table[], words: { from: string; to: string; steps: string }): Sheet {
  return {
    columns: [
      { name: 'referrer', label: words.from, kind: 'text' },
      { name: 'page', label: words.to, kind: 'text' },
      { name: 'steps', label: words.steps, kind: 'integer' },
    ],
    rows: tables.flatMap((table) => steps(table).map(({ from, to, count }) => [from, to, count])),
  };
}
