// The devices that visitors use, by their sessions. The sessions of a device are the server's estimate.
import { useMemo } from 'preact/hooks';
import { aggregate } from '../../api/question.ts';
import type { Table } from '../../api/types.ts';
import { share } from '../../charts/share.ts';
import { Card } from '../../ui/card.tsx';
import { useShared } from '../../ui/context.ts';
import { useIsNarrow } from '../../ui/use_is_narrow.ts';
import { useQuestion } from '../../ui/use_question.ts';
import { ranked, reader, tableSheet } from '../common.ts';
import type { Part } from '../part.ts';

export function Devices({ stream, range, filters, tick, format }: Part) {
  const { texts, theme } = useShared();
  const isNarrow = useIsNarrow();
  const question = aggregate(stream.name, { range, measures: ['sessions'], by: ['device'], filters, order: '-sessions', limit: 20 });
  const answer = useQuestion<Table, null>(question, null, tick);
  const { data } = answer;
  const label = texts.columns.sessions;
  const shown = useMemo(
    () =>
      data === null
        ? null
        : ranked({ table: data, field: 'device', measure: 'sessions', filters: {}, none: texts.filter.none, shown: reader('sessions', format) }),
    [data, texts, format],
  );
  const option = useMemo(
    () => (shown === null ? null : share(shown.bars, label, (of) => format.percent(of), isNarrow, theme)),
    [shown, label, format, isNarrow, theme],
  );
  const columns = [
    { name: 'device', label: texts.columns.device, kind: 'text' as const },
    { name: 'sessions', label, kind: 'integer' as const },
  ];
  return (
    <Card
      title={texts.charts.devices}
      hint={texts.charts.devicesHint}
      span={4}
      file={`${stream.name}-devices`}
      status={answer}
      isEmpty={shown?.bars.length === 0}
      format={format}
      sheet={data === null ? null : tableSheet(data, columns, null)}
      picture={option === null ? null : { option, height: 300 }}
    />
  );
}
