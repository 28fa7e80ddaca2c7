// Sales: how much, when, where, of what.
//
// Owns: which questions the page asks, and where their pictures stand. Each picture leaves out the filter by its own
// dimension, so that what could be chosen instead stays in sight; all others apply everywhere.
import { useMemo } from 'preact/hooks';
import { tickOf } from '../api/live.ts';
import type { Stream } from '../api/types.ts';
import { createFormat } from '../i18n/format.ts';
import { resolve } from '../view/period.ts';
import { only } from '../view/state.ts';
import { useShared } from '../ui/context.ts';
import { Chips, FilterBar } from '../ui/filter_bar.tsx';
import { EmptyPeriod, Notice } from '../ui/nothing.tsx';
import { PeriodBar } from '../ui/period_bar.tsx';
import { usePeriod } from '../ui/use_period.ts';
import { Latest } from './sales/latest.tsx';
import { MeasureSwitch } from './sales/measure_switch.tsx';
import { Breakdowns } from './sales/breakdowns.tsx';
import { Figures, useFigures } from './sales/figures.tsx';
import { OverTime } from './sales/over_time.tsx';
import { Rhythm } from './sales/rhythm.tsx';
import { streamWith } from './streams.ts';

const SALES_MEASURES = ['revenue', 'sales', 'units'];

export function SalesPage({ streams }: { readonly streams: readonly Stream[] }) {
  const { texts } = useShared();
  const stream = streamWith(streams, SALES_MEASURES);
  if (stream === null) {
    return <Notice title={texts.states.noStream} hint={`${texts.states.noStreamHint} ${SALES_MEASURES.join(', ')}`} />;
  }
  if (!stream.mongo) return <Notice title={texts.states.noMongo} />;
  return <Sales stream={stream} />;
}

function Sales({ stream }: { readonly stream: Stream }) {
  const { view, texts, now, news, locale } = useShared();
  const zone = stream.timezone;
  const format = useMemo(() => createFormat(locale, zone), [locale, zone]);
  const tick = tickOf(news, stream.name);
  const { period, isEmpty } = usePeriod(stream, 'sales', view.period, now, tick);
  const range = period === null ? null : resolve(period, now, zone);
  const fields = stream.fields.map(({ name }) => name);
  const filters = only(view.filters, fields);
  const figures = useFigures({ stream, range, filters, tick, now });
  const part = range === null ? null : { stream, range, filters, tick, format, now };
  return (
    <>
      <div class="controls">
        <PeriodBar period={period} range={range} zone={zone} format={format} />
        <MeasureSwitch />
        <FilterBar
          stream={stream.name}
          measure="sales"
          range={range}
          fields={[
            { field: 'region', isMany: false },
            { field: 'category', isMany: false },
            { field: 'product', isMany: true },
          ]}
        />
        <Chips />
      </div>
      <div class="grid">
        {isEmpty && <Notice title={texts.states.noData} hint={texts.states.noDataHint} />}
        {!isEmpty && figures.isNothing && (
          <EmptyPeriod stream={stream} measure="sales" format={format} isFiltered={Object.keys(filters).length > 0} />
        )}
        <Figures figures={figures} format={format} />
        {part !== null && (
          <>
            <OverTime {...part} />
            <Breakdowns {...part} />
            <Rhythm {...part} />
            <Latest {...part} />
          </>
        )}
      </div>
    </>
  );
}
