// The chosen measure over time; a drag over the picture narrows the period.
import { useMemo } from 'preact/hooks';
import { aggregate } from '../../api/question.ts';
import type { Table } from '../../api/types.ts';
import { timeLine } from '../../charts/line.ts';
import { Card } from '../../ui/card.tsx';
import { useShared } from '../../ui/context.ts';
import { useIsNarrow } from '../../ui/use_is_narrow.ts';
import { useQuestion } from '../../ui/use_question.ts';
import { bucketEnd, bucketWidth, snap } from '../../view/period.ts';
import { axisReader, reader, series, seriesLine, seriesSheet } from '../common.ts';
import type { Part } from '../part.ts';

export function OverTime({ stream, range, filters, tick, format }: Part) {
  const { view, texts, theme, go } = useShared();
  const { measure } = view;
  // Where fingers scroll, no drag zooms.
  const isNarrow = useIsNarrow();
  const zone = stream.timezone;
  const width = bucketWidth(range, measure, Object.keys(filters), stream.rollups, zone);
  const question = aggregate(stream.name, { range, measures: [measure], every: width, filters });
  const answer = useQuestion<Table, About>(question, { range, width, measure }, tick);
  const { data, about } = answer;
  const shown = useMemo(
    () => (data === null || about === null ? null : series(data, about.measure, about.range, about.width, Date.now(), zone)),
    [data, about, zone],
  );
  const option = useMemo(() => {
    if (shown === null || about === null) return null;
    const line = seriesLine(shown, {
      name: texts.measure[about.measure],
      width: about.width,
      unfinished: texts.charts.unfinished,
      shown: reader(about.measure, format),
      axis: axisReader(about.measure, format),
    });
    return timeLine(line, theme, format);
  }, [shown, about, theme, format, texts]);
  const zoom = (first: number, last: number): void => {
    const [from, to] = [shown?.starts[first], shown?.starts[Math.min(last, shown.starts.length - 1)]];
    if (from === undefined || to === undefined || about === null) return;
    go({ period: snap({ from, to: bucketEnd(to, about.width, zone) }, zone) });
  };
  const label = texts.measure[measure];
  return (
    <Card
      title={texts.charts[measure]}
      hint={`${label} ${texts.charts.per[about?.width ?? width]}${isNarrow ? '' : ` · ${texts.charts.zoom}`}`}
      span={8}
      file={`${stream.name}-${measure}-over-time`}
      status={answer}
      isEmpty={data?.rows.length === 0}
      format={format}
      sheet={shown === null ? null : seriesSheet(shown, { name: measure, label, kind: measure === 'revenue' ? 'money' : 'integer' }, texts.columns.time)}
      picture={option === null ? null : { option, height: 320, onZoom: zoom }}
    />
  );
}

interface About {
  readonly range: Part['range'];
  readonly width: ReturnType<typeof bucketWidth>;
  readonly measure: 'revenue' | 'sales';
}
