// When in the week people buy.
//
// Counts sales, not money: whole numbers can be added here without losing a cent.
import { useMemo } from 'preact/hooks';
import { aggregate } from '../../api/question.ts';
import type { Table } from '../../api/types.ts';
import { weekGrid } from '../../charts/week.ts';
import type { Sheet } from '../../data/sheet.ts';
import { drawn, values } from '../../data/table.ts';
import { type Slot, week } from '../../data/week.ts';
import type { Format } from '../../i18n/format.ts';
import type { Texts } from '../../i18n/index.ts';
import { Card } from '../../ui/card.tsx';
import { useShared } from '../../ui/context.ts';
import { useQuestion } from '../../ui/use_question.ts';
import type { Range } from '../../view/period.ts';
import { addDays } from '../../view/zone.ts';
import type { Part } from '../part.ts';

/** Five weeks by hour; a year of hours would be a heavy question for the same picture. */
const MOST_DAYS = 35;

export function Rhythm({ stream, range, filters, tick, format, now }: Part) {
  const { texts, theme } = useShared();
  const zone = stream.timezone;
  const end = Math.min(range.to, addDays(now, 1, zone));
  const earliest = addDays(end, -MOST_DAYS, zone);
  const isCut = range.from < earliest;
  const shown: Range = { from: isCut ? earliest : range.from, to: range.to };
  const question = aggregate(stream.name, { range: shown, measures: ['sales'], every: '1h', filters });
  const answer = useQuestion<Table, Range>(question, shown, tick);
  const { data, about } = answer;
  const slots = useMemo(() => {
    if (data === null || about === null) return null;
    const counts = values(data, 'sales');
    const times = values(data, 't').map((time, index): [number, number] => [Date.parse(String(time)), drawn(counts[index])]);
    return week(new Map(times), about, Date.now(), zone);
  }, [data, about, zone]);
  const option = useMemo(() => (slots === null ? null : weekGrid(slots, texts.columns.average, theme, format)), [slots, texts, theme, format]);
  return (
    <Card
      title={texts.charts.week}
      hint={isCut ? texts.charts.weekShort(MOST_DAYS) : texts.charts.weekHint}
      span={7}
      file={`${stream.name}-week`}
      status={answer}
      isEmpty={slots?.length === 0 || data?.rows.length === 0}
      format={format}
      sheet={slots === null ? null : weekSheet(slots, texts, format)}
      picture={option === null ? null : { option, height: 412 }}
    />
  );
}

function weekSheet(slots: readonly Slot[], texts: Texts, format: Format): Sheet {
  return {
    columns: [
      { name: 'weekday', label: texts.columns.weekday, kind: 'text' },
      { name: 'hour', label: texts.columns.hour, kind: 'integer' },
      { name: 'sales', label: texts.columns.sales, kind: 'integer' },
      { name: 'average', label: texts.columns.average, kind: 'number' },
    ],
    rows: slots.map(({ weekday, hour, hours, sum }) => [format.weekday(weekday), hour, sum, sum / hours]),
  };
}
