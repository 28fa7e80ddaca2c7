// The chosen measure by region, by product and by category. A click filters everything else, another one takes that back.
import { useEffect, useMemo, useState } from 'preact/hooks';
import { aggregate } from '../../api/question.ts';
import type { Table } from '../../api/types.ts';
import { map } from '../../charts/map.ts';
import { type Ranked, ranked, tableSheet, axisReader, reader } from '../common.ts';
import { ranking } from '../../charts/ranking.ts';
import { share } from '../../charts/share.ts';
import type { Sheet } from '../../data/sheet.ts';
import { Card } from '../../ui/card.tsx';
import { useShared } from '../../ui/context.ts';
import { useIsNarrow } from '../../ui/use_is_narrow.ts';
import { type Answer, useQuestion } from '../../ui/use_question.ts';
import { type Measure, type Value, isFiltered, toggled, without } from '../../view/state.ts';
import type { Part } from '../part.ts';

export function Breakdowns(part: Part) {
  return (
    <>
      <Regions {...part} />
      <Products {...part} />
      <Categories {...part} />
    </>
  );
}

interface Breakdown {
  readonly answer: Answer<Table, null>;
  readonly shown: Ranked | null;
  readonly sheet: Sheet | null;
  readonly measure: Measure;
  readonly pick: (value: Value) => void;
}

function useBreakdown({ stream, range, filters, tick, format }: Part, field: string, limit: number): Breakdown {
  const { view, texts, go } = useShared();
  const question = aggregate(stream.name, {
    range,
    measures: ['revenue', 'sales'],
    by: [field],
    filters: without(filters, field),
    order: `-${view.measure}`,
    limit,
  });
  const answer = useQuestion<Table, null>(question, null, tick);
  const { measure } = view;
  const { data } = answer;
  const shown = useMemo(() => {
    if (data === null) return null;
    const other = measure === 'revenue' ? 'sales' : 'revenue';
    return ranked({
      table: data,
      field,
      measure,
      filters: view.filters,
      none: texts.filter.none,
      shown: reader(measure, format),
      more: { measure: other, label: texts.measure[other], shown: reader(other, format) },
    });
  }, [data, field, measure, view.filters, texts, format]);
  const sheet = useMemo(
    () =>
      data === null
        ? null
        : tableSheet(
            data,
            [
              { name: field, label: texts.filter[field as 'region'], kind: 'text' },
              { name: 'revenue', label: texts.columns.revenue, kind: 'money' },
              { name: 'sales', label: texts.columns.sales, kind: 'integer' },
            ],
            field,
          ),
    [data, field, texts],
  );
  return {
    answer,
    shown,
    sheet,
    measure,
    pick: (value) => go({ filters: toggled(view.filters, field, value) }),
  };
}

function Regions(part: Part) {
  const { texts, theme, view } = useShared();
  const { answer, shown, sheet, measure, pick } = useBreakdown(part, 'region', 200);
  const known = useRegionNames();
  const option = useMemo(() => {
    if (shown === null) return null;
    const areas = shown.bars.map((bar, index) => ({ ...bar, isChosen: isFiltered(view.filters, 'region', shown.keys[index] ?? null) }));
    return map(areas.filter(({ label }) => known?.has(label) ?? true), texts.measure[measure], axisReader(measure, part.format), theme);
  }, [shown, known, view.filters, measure, texts, part.format, theme]);
  const offMap = shown === null || known === null ? [] : shown.bars.filter(({ label }) => !known.has(label));
  return (
    <Card
      title={texts.charts.map}
      hint={texts.charts.mapHint}
      span={4}
      file={`${part.stream.name}-regions`}
      status={answer}
      isEmpty={shown?.bars.length === 0}
      format={part.format}
      sheet={sheet}
      picture={option === null ? null : { option, height: 320, onPick: ({ name }) => pick(name) }}
    >
      {offMap.length > 0 && (
        <p class="hint">
          {texts.charts.offMap(offMap.length, offMap.map(({ label, shown: value }) => `${label} (${value})`).join(', '))}
        </p>
      )}
    </Card>
  );
}

/** Comes with the drawing library. */
function useRegionNames(): ReadonlySet<string> | null {
  const [names, setNames] = useState<ReadonlySet<string> | null>(null);
  useEffect(() => {
    void import('../../charts/echarts.ts').then(({ regionNames }) => setNames(regionNames));
  }, []);
  return names;
}

function Products(part: Part) {
  const { texts, theme } = useShared();
  const isNarrow = useIsNarrow();
  const { answer, shown, sheet, measure, pick } = useBreakdown(part, 'product', 10);
  const option = useMemo(() => (shown === null ? null : ranking(shown.bars, texts.measure[measure], isNarrow, theme)), [shown, measure, texts, isNarrow, theme]);
  return (
    <Card
      title={texts.charts.products}
      hint={`${texts.charts.productsHint} · ${texts.measure[measure]}`}
      span={6}
      file={`${part.stream.name}-products`}
      status={answer}
      isEmpty={shown?.bars.length === 0}
      format={part.format}
      sheet={sheet}
      picture={option === null ? null : { option, height: 340, onPick: ({ index }) => pick(shown?.keys[index] ?? null) }}
    />
  );
}

function Categories(part: Part) {
  const { texts, theme } = useShared();
  const { format } = part;
  const isNarrow = useIsNarrow();
  const { answer, shown, sheet, measure, pick } = useBreakdown(part, 'category', 30);
  const option = useMemo(
    () => (shown === null ? null : share(shown.bars, texts.measure[measure], (of) => format.percent(of), isNarrow, theme)),
    [shown, measure, texts, format, isNarrow, theme],
  );
  return (
    <Card
      title={texts.charts.categories}
      hint={`${texts.charts.categoriesHint} · ${texts.measure[measure]}`}
      span={6}
      file={`${part.stream.name}-categories`}
      status={answer}
      isEmpty={shown?.bars.length === 0}
      format={format}
      sheet={sheet}
      picture={option === null ? null : { option, height: 340, onPick: ({ index }) => pick(shown?.keys[index] ?? null) }}
    />
  );
}
