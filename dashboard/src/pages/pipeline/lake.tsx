// A stream's table in the lake: how many files, how large, and what was done to it last.
import { lake } from '../../api/question.ts';
import type { Lake } from '../../api/types.ts';
import type { Format } from '../../i18n/format.ts';
import { Card } from '../../ui/card.tsx';
import { useShared } from '../../ui/context.ts';
import { useQuestion } from '../../ui/use_question.ts';
import { useTick } from '../../ui/use_tick.ts';

/** As often as the server looks. */
export const EVERY_MS = 15_000;

export function LakeCard({ stream, format }: { readonly stream: string; readonly format: Format }) {
  const { texts } = useShared();
  const { columns, pipeline: words } = texts;
  const answer = useQuestion<Lake, null>(lake(stream), null, useTick(EVERY_MS));
  const { data } = answer;
  const facts = data?.version == null ? undefined : [
    `${words.version} ${format.integer(data.version)}`,
    `${format.integer(data.files)} ${words.files(data.files)}`,
    format.bytes(data.bytes),
    ...(data.files === 0 ? [] : [words.mean(format.bytes(data.bytes / data.files))]),
  ];
  return (
    <Card
      title={`${words.lake} · ${stream}`}
      hint={facts?.join(' · ')}
      span={7}
      file={`${stream}-lake-versions`}
      status={answer}
      isEmpty={data?.version === null}
      empty={words.noTable}
      format={format}
      isTable
      sheet={{
        columns: [
          { name: 'version', label: columns.version, kind: 'integer' },
          { name: 'timestamp', label: columns.time, kind: 'time' },
          { name: 'operation', label: columns.operation, kind: 'text' },
          { name: 'files_added', label: columns.added, kind: 'integer' },
          { name: 'files_removed', label: columns.removed, kind: 'integer' },
          { name: 'rows', label: columns.rows, kind: 'integer' },
        ],
        rows: (data?.versions ?? []).map(({ version, timestamp, operation, added, removed, rows }) => [
          version,
          timestamp === null ? null : new Date(timestamp).toISOString(),
          operation,
          added,
          removed,
          rows,
        ]),
      }}
    />
  );
}
