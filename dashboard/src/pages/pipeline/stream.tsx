// One stream: its parts' health, its partitions' progress, its throughput, its table, its dead letters.
import { useMemo } from 'preact/hooks';
import type { PartReport, StreamReport } from '../../api/types.ts';
import { rates } from '../../charts/line.ts';
import type { Sample } from '../../data/throughput.ts';
import type { Format } from '../../i18n/format.ts';
import { Card } from '../../ui/card.tsx';
import { useShared } from '../../ui/context.ts';
import { ageOf } from '../pipeline.tsx';
import { DeadLettersCard } from './dead_letters.tsx';
import { LakeCard } from './lake.tsx';
import { Partitions } from './partitions.tsx';

interface Properties {
  readonly report: StreamReport;
  readonly parts: readonly PartReport[];
  readonly at: string;
  readonly samples: readonly Sample[];
  readonly format: Format;
}

const KNOWN = { error: null, isWaiting: false };

export function StreamCards({ report, parts, at, samples, format }: Properties) {
  const { texts } = useShared();
  const words = texts.pipeline;
  const freshness = ageOf(report.watermark, at);
  const version = report.lake_version === null ? null : `${words.version} ${format.integer(report.lake_version)}`;
  const facts = [
    `${words.topic} ${report.topic}`,
    ...(version === null ? [] : [version]),
    `${words.freshness} ${freshness === null ? words.unknown : format.duration(freshness)}`,
  ];
  return (
    <>
      <Card
        title={report.stream}
        hint={facts.join(' · ')}
        span={7}
        file={`${report.stream}-partitions`}
        status={{ ...KNOWN, data: report }}
        isEmpty={false}
        format={format}
        sheet={null}
      >
        <Parts parts={parts} format={format} />
        <Partitions report={report} format={format} />
        <Messages title={words.problems} messages={report.problems} isWarning />
        <Messages title={words.notices} messages={report.notices} isWarning={false} />
        <Messages title={words.losses} messages={report.losses.map(({ accepted_at, loss }) => `${format.cell(accepted_at, 'time')}: ${loss}`)} isWarning={false} />
      </Card>
      <Throughput stream={report.stream} samples={samples} format={format} />
      {report.partitions.some(({ lake }) => lake !== null) && <LakeCard stream={report.stream} format={format} />}
      <DeadLettersCard stream={report.stream} format={format} />
    </>
  );
}

function Parts({ parts, format }: { readonly parts: readonly PartReport[]; readonly format: Format }) {
  const { texts } = useShared();
  const words = texts.pipeline;
  if (parts.length === 0) return null;
  return (
    <ul class="parts" aria-label={words.health}>
      {parts.map(({ part, state, since, why }) => (
        <li key={part} class={`part is-${state}`}>
          <span class="dot" aria-hidden="true" />
          <span>
            <strong>{(words.parts as Record<string, string>)[part] ?? part}</strong> {(words.states as Record<string, string>)[state] ?? state}
            {since !== undefined && ` ${words.since(format.clock(Date.parse(since)))}`}
            {why !== undefined && <span class="hint part-why">{why}</span>}
          </span>
        </li>
      ))}
    </ul>
  );
}

function Messages({ title, messages, isWarning }: { readonly title: string; readonly messages: readonly string[]; readonly isWarning: boolean }) {
  if (messages.length === 0) return null;
  return (
    <div class={isWarning ? 'note is-warning' : 'note'}>
      <strong>{title}</strong>
      <ul>
        {messages.map((message) => (
          <li key={message}>{message}</li>
        ))}
      </ul>
    </div>
  );
}

function Throughput({ stream, samples, format }: { readonly stream: string; readonly samples: readonly Sample[]; readonly format: Format }) {
  const { texts, theme } = useShared();
  const { columns, units } = texts;
  const own = useMemo(() => samples.filter(({ streams }) => streams[stream] !== undefined), [samples, stream]);
  const lines = useMemo(
    () => [
      { name: columns.produced, values: own.map(({ streams }) => streams[stream]?.produced ?? null) },
      { name: columns.mongo, values: own.map(({ streams }) => streams[stream]?.mongo ?? null) },
      { name: columns.lake, values: own.map(({ streams }) => streams[stream]?.lake ?? null) },
    ],
    [own, stream, columns],
  );
  const times = useMemo(() => own.map(({ at }) => at), [own]);
  const option = useMemo(() => rates(times, lines, units.perSecond, theme, format), [times, lines, units, theme, format]);
  return (
    <Card
      title={`${texts.charts.throughput} · ${stream}`}
      hint={texts.charts.throughputHint}
      span={5}
      file={`${stream}-throughput`}
      status={{ ...KNOWN, data: own }}
      isEmpty={own.length === 0}
      empty={texts.charts.collecting}
      format={format}
      sheet={{
        isTimeline: true,
        columns: [
          { name: 'at', label: columns.time, kind: 'time' },
          { name: 'produced_per_second', label: columns.produced, kind: 'number' },
          { name: 'mongo_per_second', label: columns.mongo, kind: 'number' },
          { name: 'lake_per_second', label: columns.lake, kind: 'number' },
        ],
        rows: own.map(({ at }, index) => [new Date(at).toISOString(), ...lines.map(({ values }) => values[index] ?? null)]),
      }}
      picture={{ option, height: 240 }}
    />
  );
}
