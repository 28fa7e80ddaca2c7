// The pipeline: how far each sink is, how fast, how well.
//
// Owns: where its parts stand. Unknown is shown as unknown, never as zero.
import { useMemo } from 'preact/hooks';
import type { Pipeline } from '../api/types.ts';
import { type Format, createFormat } from '../i18n/format.ts';
import { useShared } from '../ui/context.ts';
import { Figure } from '../ui/figure.tsx';
import { Notice } from '../ui/nothing.tsx';
import { usePipeline } from '../ui/use_pipeline.ts';
import { StreamCards } from './pipeline/stream.tsx';

export function PipelinePage() {
  const { texts, locale } = useShared();
  // An operator's own clock: streams may have different zones.
  const format = useMemo(() => createFormat(locale, Intl.DateTimeFormat().resolvedOptions().timeZone), [locale]);
  const { answer, samples } = usePipeline();
  const { data, error } = answer;
  return (
    <div class="grid">
      {error !== null && (
        <p class="note is-warning span-12" role="status">
          {texts.states.failed} {data !== null && texts.states.stale}
        </p>
      )}
      <Summary pipeline={data} format={format} />
      {data?.status.complete === false && (
        <p class="note is-warning span-12" role="status">
          {texts.pipeline.incomplete}
        </p>
      )}
      {data?.status.streams.length === 0 && <Notice title={texts.pipeline.noStreams} />}
      {data?.status.streams.map((stream) => (
        <StreamCards
          key={stream.stream}
          report={stream}
          parts={data.parts.filter((part) => part.stream === stream.stream)}
          at={data.status.at}
          samples={samples}
          format={format}
        />
      ))}
    </div>
  );
}

function Summary({ pipeline, format }: { readonly pipeline: Pipeline | null; readonly format: Format }) {
  const { texts } = useShared();
  const words = texts.pipeline;
  const status = pipeline?.status;
  const troubled = pipeline?.parts.filter(({ state }) => state !== 'ok').length;
  const known = <T,>(value: T | null | undefined, shown: (value: T) => string): string | null =>
    status === undefined ? null : value == null ? words.unknown : shown(value);
  const ages = status?.streams.map(({ watermark }) => ageOf(watermark, status.at)) ?? [];
  const oldest = ages.reduce<number | null>((most, age) => (age === null || (most !== null && most > age) ? most : age), null);
  return (
    <dl class="figures span-12" aria-label={words.summary}>
      <Figure
        name="lag-records"
        label={words.lag}
        value={known(status?.lag_records, (lag) => `${format.integer(lag)} ${words.records(lag)}`)}
        isStale={false}
      />
      <Figure name="lag-seconds" label={words.age} value={known(status?.lag_seconds, (lag) => format.duration(lag))} isStale={false} />
      <Figure
        name="freshness"
        label={words.freshness}
        hint={words.freshnessHint}
        value={known(oldest, (age) => format.duration(age))}
        isStale={false}
      />
      <Figure
        name="health"
        label={words.health}
        value={troubled === undefined ? null : troubled === 0 ? words.allWell : words.someHeld(troubled)}
        isStale={false}
      >
        {status !== undefined && <span class="hint">{words.taken(format.clock(Date.parse(status.at)))}</span>}
      </Figure>
    </dl>
  );
}

/** Seconds between an event time and the report; a clock may run ahead. */
export function ageOf(time: string | null, at: string): number | null {
  return time === null ? null : Math.max(0, (Date.parse(at) - Date.parse(time)) / 1_000);
}
