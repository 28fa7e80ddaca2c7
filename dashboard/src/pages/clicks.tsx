// Clicks: which pages, by which ways.
//
// Owns: which questions the page asks, and where their pictures stand.
import { useMemo } from 'preact/hooks';
import { tickOf } from '../api/live.ts';
import type { Stream } from '../api/types.ts';
import { createFormat } from '../i18n/format.ts';
import { useShared } from '../ui/context.ts';
import { Chips, FilterBar } from '../ui/filter_bar.tsx';
import { EmptyPeriod, Notice } from '../ui/nothing.tsx';
import { PeriodBar } from '../ui/period_bar.tsx';
import { usePeriod } from '../ui/use_period.ts';
import { resolve } from '../view/period.ts';
import { only } from '../view/state.ts';
import { ClickFigures, useClickFigures } from './clicks/figures.tsx';
import { Devices } from './clicks/devices.tsx';
import { Entries, Origins, Pages } from './clicks/pages.tsx';
import { ClicksOverTime } from './clicks/over_time.tsx';
import { Paths } from './clicks/paths.tsx';
import { keeps, streamWith } from './streams.ts';

const CLICK_MEASURES = ['clicks', 'steps'];

export function ClicksPage({ streams }: { readonly streams: readonly Stream[] }) {
  const { texts } = useShared();
  const stream = streamWith(streams, CLICK_MEASURES);
  if (stream === null) {
    return <Notice title={texts.states.noStream} hint={`${texts.states.noStreamHint} ${CLICK_MEASURES.join(', ')}`} />;
  }
  if (!stream.mongo) return <Notice title={texts.states.noMongo} />;
  return <Clicks stream={stream} />;
}

function Clicks({ stream }: { readonly stream: Stream }) {
  const { view, texts, now, news, locale } = useShared();
  const zone = stream.timezone;
  const format = useMemo(() => createFormat(locale, zone), [locale, zone]);
  const tick = tickOf(news, stream.name);
  const { period, isEmpty } = usePeriod(stream, 'clicks', view.period, now, tick);
  const range = period === null ? null : resolve(period, now, zone);
  const fields = stream.fields.map(({ name }) => name);
  const filters = only(view.filters, fields);
  const figures = useClickFigures({ stream, range, filters, tick, now });
  const hasDevices = keeps(stream, 'sessions', ['device']);
  const part = range === null ? null : { stream, range, filters, tick, format, now };
  return (
    <>
      <div class="controls">
        <PeriodBar period={period} range={range} zone={zone} format={format} />
        <FilterBar stream={stream.name} measure="clicks" range={range} fields={[{ field: 'page', isMany: true }]} />
        <Chips />
      </div>
      <div class="grid">
        {isEmpty && <Notice title={texts.states.noData} hint={texts.states.noDataHint} />}
        {!isEmpty && figures.isNothing && (
          <EmptyPeriod stream={stream} measure="clicks" format={format} isFiltered={Object.keys(filters).length > 0} />
        )}
        <ClickFigures figures={figures} range={range} format={format} />
        {part !== null && (
          <>
            <ClicksOverTime {...part} />
            <Pages {...part} />
            <Paths {...part} />
            <Entries {...part} span={hasDevices ? 4 : 6} />
            <Origins {...part} span={hasDevices ? 4 : 6} />
            {hasDevices && <Devices {...part} />}
          </>
        )}
      </div>
    </>
  );
}
