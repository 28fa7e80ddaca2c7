// The newest sales, as they arrive.
import { useEffect, useMemo, useRef } from 'preact/hooks';
import { records } from '../../api/question.ts';
import type { Table } from '../../api/types.ts';
import { text, values } from '../../data/table.ts';
import { Card } from '../../ui/card.tsx';
import { useShared } from '../../ui/context.ts';
import { useQuestion } from '../../ui/use_question.ts';
import { tableSheet } from '../common.ts';
import type { Part } from '../part.ts';

const SHOWN = 9;

interface Row {
  readonly id: string;
  readonly time: string;
  readonly product: string;
  readonly region: string;
  readonly amount: string;
}

export function Latest({ stream, filters, tick, format }: Part) {
  const { texts } = useShared();
  const answer = useQuestion<Table, null>(records(stream.name, filters, SHOWN), null, tick);
  const { data } = answer;
  const rows = useMemo(() => {
    if (data === null) return [];
    const column = (name: string): string[] => values(data, name).map((cell) => text(cell) ?? texts.filter.none);
    const [ids, times, products, regions] = [column('_id'), column(stream.event_time), column('product'), column('region')];
    const amounts = values(data, 'amount');
    return ids.map((id, index): Row => {
      const time = Date.parse(times[index] ?? '');
      return {
        id,
        time: Number.isNaN(time) ? '—' : format.moment(time),
        product: products[index] ?? '',
        region: regions[index] ?? '',
        amount: format.cell(amounts[index] ?? null, 'money'),
      };
    });
  }, [data, stream.event_time, format, texts]);
  const isNew = useNewIds(rows.map(({ id }) => id));
  const columns = [
    { name: stream.event_time, label: texts.columns.time, kind: 'time' as const },
    { name: 'product', label: texts.columns.product, kind: 'text' as const },
    { name: 'category', label: texts.columns.category, kind: 'text' as const },
    { name: 'region', label: texts.columns.region, kind: 'text' as const },
    { name: 'quantity', label: texts.columns.quantity, kind: 'integer' as const },
    { name: 'amount', label: texts.columns.amount, kind: 'money' as const },
  ];
  return (
    <Card
      title={texts.charts.latest}
      hint={texts.charts.latestHint}
      span={5}
      file={`${stream.name}-latest`}
      status={answer}
      isEmpty={rows.length === 0}
      empty={texts.states.noData}
      format={format}
      sheet={data === null ? null : tableSheet(data, columns, null)}
    >
      <ol class="latest">
        {rows.map((row) => (
          <li key={row.id} class={isNew(row.id) ? 'is-new' : ''}>
            <span class="latest-what">
              <span class="latest-product">{row.product}</span>
              <span class="hint">
                {row.region} · {row.time}
              </span>
            </span>
            <span class="latest-amount">{row.amount}</span>
          </li>
        ))}
      </ol>
    </Card>
  );
}

/** Tells those that were not there the last time; the first ones are no news. */
function useNewIds(ids: readonly string[]): (id: string) => boolean {
  const known = useRef<ReadonlySet<string>>(new Set());
  const before = known.current;
  useEffect(() => {
    known.current = new Set(ids);
  });
  return (id) => before.size > 0 && !before.has(id);
}
