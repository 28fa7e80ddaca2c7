// The figures in large type: the server's sums over the whole period, and how their complete part compares with the time before.
import { aggregate } from '../../api/question.ts';
import type { Stream, Table } from '../../api/types.ts';
import { divide } from '../../data/decimal.ts';
import { single } from '../../data/table.ts';
import type { Format } from '../../i18n/format.ts';
import { useShared } from '../../ui/context.ts';
import { Change, Figure } from '../../ui/figure.tsx';
import { type Answer, useQuestion } from '../../ui/use_question.ts';
import { type Range, comparison } from '../../view/period.ts';
import type { Filters } from '../../view/state.ts';

export interface FiguresState {
  readonly total: Answer<Table, null>;
  readonly current: Table | null;
  readonly previous: Table | null;
  readonly before: Range | null;
  /** It is known that there are no records. */
  readonly isNothing: boolean;
}

interface Asked {
  readonly stream: Stream;
  readonly range: Range | null;
  readonly filters: Filters;
  readonly tick: number;
  readonly now: number;
}

const MEASURES = ['revenue', 'sales', 'units'];

export function useFigures({ stream, range, filters, tick, now }: Asked): FiguresState {
  const compared = range === null ? null : comparison(range, now, stream.timezone);
  const question = (of: Range | undefined | null): string | null =>
    of == null ? null : aggregate(stream.name, { range: of, measures: MEASURES, filters });
  const total = useQuestion<Table, null>(question(range), null, tick);
  const isWhole = compared !== null && compared.current.to === range?.to;
  const current = useQuestion<Table, null>(isWhole ? null : question(compared?.current), null, tick);
  const previous = useQuestion<Table, null>(question(compared?.previous), null, tick);
  return {
    total,
    current: isWhole ? total.data : current.data,
    previous: previous.data,
    before: compared?.previous ?? null,
    isNothing: total.data !== null && !total.isWaiting && !(Number(single(total.data, 'sales')) > 0),
  };
}

export function Figures({ figures, format }: { readonly figures: FiguresState; readonly format: Format }) {
  const { texts } = useShared();
  const { total, current, previous, before } = figures;
  const value = (measure: string): string | null => (total.data === null ? null : String(single(total.data, measure) ?? 0));
  const change = (of: (table: Table) => number | null) => (
    <Change
      current={current === null ? null : of(current)}
      previous={previous === null ? null : of(previous)}
      period={before === null ? null : format.range(before)}
      format={format}
    />
  );
  const [revenue, sales, units] = MEASURES.map(value);
  const common = { isStale: total.isWaiting };
  return (
    <dl class="figures span-12" aria-label={texts.figures.label}>
      <Figure {...common} name="revenue" label={texts.figures.revenue} value={revenue == null ? null : format.money(revenue)}>
        {change((table) => number(table, 'revenue'))}
      </Figure>
      <Figure {...common} name="sales" label={texts.figures.sales} value={sales == null ? null : format.integer(Number(sales))}>
        {change((table) => number(table, 'sales'))}
      </Figure>
      <Figure {...common} name="basket" label={texts.figures.basket} value={total.data === null ? null : basketText(total.data, format)}>
        {change(basket)}
      </Figure>
      <Figure {...common} name="units" label={texts.figures.units} value={units == null ? null : format.integer(Number(units))}>
        {change((table) => number(table, 'units'))}
      </Figure>
    </dl>
  );
}

/** For a comparison; what is shown stays a decimal. */
function number(table: Table, measure: string): number {
  return Number(single(table, measure) ?? 0);
}

function basket(table: Table): number | null {
  const sales = number(table, 'sales');
  return sales > 0 ? number(table, 'revenue') / sales : null;
}

function basketText(table: Table, format: Format): string {
  const mean = divide(String(single(table, 'revenue') ?? 0), number(table, 'sales'), 2);
  return mean === null ? '—' : format.money(mean);
}
