// Clicks over time; a drag over the picture narrows the period.
import { useMemo } from 'preact/hooks';
import { aggregate } from '../../api/question.ts';
import type { Table } from '../../api/types.ts';
import { timeLine } from '../../charts/line.ts';
import { Card } from '../../ui/card.tsx';
import { useShared } from '../../ui/context.ts';
import { useIsNarrow } from '../../ui/use_is_narrow.ts';
import { useQuestion } from '../../ui/use_question.ts';
import { type Range, type Width, bucketEnd, bucketWidth, snap } from '../../view/period.ts';
import { axisReader, reader, series, seriesLine, seriesSheet } from '../common.ts';
import type { Part } from '../part.ts';

export function ClicksOverTime({ stream, range, filters, tick, format }: Part) {
  const { texts, theme, go } = useShared();
  // Where fingers scroll, no drag zooms.
  const isNarrow = useIsNarrow();
  const zone = stream.timezone;
  const width = bucketWidth(range, 'clicks', Object.keys(filters), stream.rollups, zone);
  const question = aggregate(stream.name, { range, measures: ['clicks'], every: width, filters });
  const answer = useQuestion<Table, { range: Range; width: Width }>(question, { range, width }, tick);
  const { data, about } = answer;
  const shown = useMemo(
    () => (data === null || about === null ? null : series(data, 'clicks', about.range, about.width, Date.now(), zone)),
    [data, about, zone],
  );
  const option = useMemo(() => {
    if (shown === null || about === null) return null;
    const line = seriesLine(shown, {
      name: texts.columns.clicks,
      width: about.width,
      unfinished: texts.charts.unfinished,
      shown: reader('clicks', format),
      axis: axisReader('clicks', format),
    });
    return timeLine(line, theme, format);
  }, [shown, about, theme, format, texts]);
  const zoom = (first: number, last: number): void => {
    const [from, to] = [shown?.starts[first], shown?.starts[Math.min(last, shown.starts.length - 1)]];
    if (from === undefined || to === undefined || about === null) return;
    go({ period: snap({ from, to: bucketEnd(to, about.width, zone) }, zone) });
  };
  return (
    <Card
      title={texts.charts.clicksOverTime}
      hint={`${texts.columns.clicks} ${texts.charts.per[about?.width ?? width]}${isNarrow ? '' : ` · ${texts.charts.zoom}`}`}
      span={7}
      file={`${stream.name}-over-time`}
      status={answer}
      isEmpty={data?.rows.length === 0}
      format={format}
      sheet={shown === null ? null : seriesSheet(shown, { name: 'clicks', label: texts.columns.clicks, kind: 'integer' }, texts.columns.time)}
      picture={option === null ? null : { option, height: 400, onZoom: zoom }}
    />
  );
}
