// Pages in order: those seen most, those visitors enter by, and the sites they come from.
import { useMemo } from 'preact/hooks';
import { aggregate } from '../../api/question.ts';
import type { Table } from '../../api/types.ts';
import { ranking } from '../../charts/ranking.ts';
import { hostOf } from '../../data/paths.ts';
import { drawn, text, values } from '../../data/table.ts';
import { Card } from '../../ui/card.tsx';
import { useShared } from '../../ui/context.ts';
import { useIsNarrow } from '../../ui/use_is_narrow.ts';
import { useQuestion } from '../../ui/use_question.ts';
import { type Filters, toggled, without } from '../../view/state.ts';
import { ranked, reader, tableSheet } from '../common.ts';
import type { Part } from '../part.ts';

export function Pages(part: Part) {
  const { texts } = useShared();
  return (
    <PageRanking
      {...part}
      title={texts.charts.pages}
      hint={texts.charts.pagesHint}
      file="pages"
      measure="clicks"
      limit={15}
      height={400}
      span={5}
      asked={without(part.filters, 'page')}
    />
  );
}

/** `span`: of a row that may have a third card. */
export function Entries({ span, ...part }: Part & { readonly span: 4 | 6 }) {
  const { texts } = useShared();
  return (
    <PageRanking
      {...part}
      title={texts.charts.entries}
      hint={texts.charts.entriesHint}
      file="entries"
      measure="steps"
      limit={10}
      height={300}
      span={span}
      asked={{ ...without(part.filters, 'page'), referrer: [null] }}
    />
  );
}

interface Properties extends Part {
  readonly title: string;
  readonly hint: string;
  readonly file: string;
  readonly measure: 'clicks' | 'steps';
  readonly limit: number;
  readonly height: number;
  readonly span: 4 | 5 | 6;
  readonly asked: Filters;
}

function PageRanking({ stream, range, tick, format, title, hint, file, measure, limit, height, span, asked }: Properties) {
  const { view, texts, theme, go } = useShared();
  const isNarrow = useIsNarrow();
  const question = aggregate(stream.name, { range, measures: [measure], by: ['page'], filters: asked, order: `-${measure}`, limit });
  const answer = useQuestion<Table, null>(question, null, tick);
  const { data } = answer;
  const shown = useMemo(
    () =>
      data === null
        ? null
        : ranked({ table: data, field: 'page', measure, filters: view.filters, none: texts.filter.none, shown: reader(measure, format) }),
    [data, measure, view.filters, texts, format],
  );
  const label = texts.columns.clicks;
  const option = useMemo(() => (shown === null ? null : ranking(shown.bars, label, isNarrow, theme)), [shown, label, isNarrow, theme]);
  const columns = [
    { name: 'page', label: texts.columns.page, kind: 'text' as const },
    { name: measure, label, kind: 'integer' as const },
  ];
  return (
    <Card
      title={title}
      hint={hint}
      span={span}
      file={`${stream.name}-${file}`}
      status={answer}
      isEmpty={shown?.bars.length === 0}
      format={format}
      sheet={data === null ? null : tableSheet(data, columns, 'page')}
      picture={
        option === null
          ? null
          : { option, height, onPick: ({ index }) => go({ filters: toggled(view.filters, 'page', shown?.keys[index] ?? null) }) }
      }
    />
  );
}

/** Referrers are many, and most are pages of the shop itself. */
const MOST_REFERRERS = 2_000;
const MOST_SITES = 10;

export function Origins({ stream, range, filters, tick, format, span }: Part & { readonly span: 4 | 6 }) {
  const { texts, theme } = useShared();
  const isNarrow = useIsNarrow();
  const question = aggregate(stream.name, { range, measures: ['steps'], by: ['referrer'], filters, order: '-steps', limit: MOST_REFERRERS });
  const answer = useQuestion<Table, null>(question, null, tick);
  const { data } = answer;
  const sites = useMemo(() => (data === null ? null : sitesOf(data)), [data]);
  const label = texts.columns.clicks;
  const option = useMemo(
    () =>
      sites === null
        ? null
        : ranking(
            sites.map(([host, count]) => ({ label: host, value: count, shown: format.integer(count), isDimmed: false })),
            label,
            isNarrow,
            theme,
          ),
    [sites, label, isNarrow, theme, format],
  );
  return (
    <Card
      title={texts.charts.origins}
      hint={texts.charts.originsHint}
      span={span}
      file={`${stream.name}-origins`}
      status={answer}
      isEmpty={sites?.length === 0}
      format={format}
      sheet={
        sites === null
          ? null
          : {
              columns: [
                { name: 'site', label: texts.columns.from, kind: 'text' },
                { name: 'steps', label, kind: 'integer' },
              ],
              rows: sites,
            }
      }
      picture={option === null ? null : { option, height: 300 }}
    />
  );
}

/** Visits by the host they come from. */
function sitesOf(table: Table): [string, number][] {
  const steps = values(table, 'steps');
  const counts = new Map<string, number>();
  for (const [index, cell] of values(table, 'referrer').entries()) {
    const host = hostOf(text(cell) ?? '');
    if (host !== null) counts.set(host, (counts.get(host) ?? 0) + drawn(steps[index]));
  }
  return [...counts].sort(([, a], [, b]) => b - a).slice(0, MOST_SITES);
}
