// Records of a stream that could not be stored: how many of each code, and the newest of each as an example.
import { deadLetters } from '../../api/question.ts';
import type { DeadLetters } from '../../api/types.ts';
import type { Format } from '../../i18n/format.ts';
import { Card } from '../../ui/card.tsx';
import { useShared } from '../../ui/context.ts';
import { useQuestion } from '../../ui/use_question.ts';
import { useTick } from '../../ui/use_tick.ts';
import { EVERY_MS } from './lake.tsx';

export function DeadLettersCard({ stream, format }: { readonly stream: string; readonly format: Format }) {
  const { texts } = useShared();
  const { columns, pipeline: words } = texts;
  const answer = useQuestion<DeadLetters, null>(deadLetters(stream), null, useTick(EVERY_MS));
  const { data } = answer;
  const facts = data === null ? undefined : [
    data.dead_letter_topic,
    `${format.integer(data.records)} ${words.letters(data.records)}`,
    ...(data.replayed === 0 ? [] : [words.replayed(format.integer(data.replayed))]),
    ...(data.complete ? [] : [words.newestOnly]),
  ];
  const codes = Object.entries(data?.by_code ?? {}).sort(([, a], [, b]) => b - a);
  return (
    <Card
      title={`${words.parts.dead_letters} · ${stream}`}
      hint={facts?.join(' · ')}
      span={5}
      file={`${stream}-dead-letters`}
      status={answer}
      isEmpty={data?.records === 0}
      empty={words.noLetters}
      format={format}
      isTable
      sheet={{
        columns: [
          { name: 'code', label: columns.code, kind: 'text' },
          { name: 'records', label: columns.records, kind: 'integer' },
          { name: 'newest', label: columns.newest, kind: 'text' },
          { name: 'error', label: columns.error, kind: 'text' },
        ],
        rows: codes.map(([code, count]) => {
          const example = data?.examples[code];
          return [code, count, example === undefined ? null : `${example.partition}:${example.offset}`, example?.error ?? null];
        }),
      }}
    />
  );
}
