// The week as a grid of days and hours.
import type { EChartsOption } from 'echarts';
import type { Slot } from '../data/week.ts';
import type { Format } from '../i18n/format.ts';
import { type Theme, base } from './theme.ts';
import { indexOf, tooltip } from './tooltip.ts';

const DAYS = [0, 1, 2, 3, 4, 5, 6];
const HOURS = Array.from({ length: 24 }, (_, hour) => hour);

export function weekGrid(slots: readonly Slot[], measure: string, theme: Theme, format: Format): EChartsOption {
  const average = ({ sum, hours }: Slot): number => sum / hours;
  const most = Math.max(...slots.map(average), 1);
  const plain = { axisLine: { show: false }, axisTick: { show: false } };
  return {
    ...base(theme),
    // Hours that the period does not have stay empty, but have their place.
    grid: { show: true, backgroundColor: theme.ground, borderWidth: 0, left: 0, right: 0, top: 0, bottom: 0, outerBoundsMode: 'same', outerBoundsContain: 'axisLabel' },
    xAxis: { ...plain, type: 'category', data: HOURS.map((hour) => format.hour(hour)), axisLabel: { color: theme.muted, interval: 2 } },
    yAxis: { ...plain, type: 'category', inverse: true, data: DAYS.map((day) => format.weekday(day)), axisLabel: { color: theme.muted } },
    visualMap: { type: 'continuous', show: false, min: 0, max: most, inRange: { color: [...theme.ramp] } },
    series: [
      {
        type: 'heatmap',
        id: 'week',
        data: slots.map((slot) => [slot.hour, slot.weekday, average(slot)]),
        itemStyle: { borderColor: theme.surface, borderWidth: 2, borderRadius: 4 },
        emphasis: { itemStyle: { borderColor: theme.text, borderWidth: 1 } },
      },
    ],
    tooltip: {
      ...(base(theme).tooltip as object),
      trigger: 'item',
      formatter: (parameters: unknown) => {
        const slot = slots[indexOf(parameters)];
        if (slot === undefined) return '';
        const title = `${format.weekday(slot.weekday)} ${format.hour(slot.hour)}–${format.hour(slot.hour + 1)}`;
        return tooltip(title, [[measure, format.number(average(slot))]]);
      },
    },
  };
}
