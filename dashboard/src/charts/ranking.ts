// Horizontal bars, the longest at the top.
import type { EChartsOption } from 'echarts';
import { type Theme, base } from './theme.ts';
import { indexOf, tooltip } from './tooltip.ts';

export interface Bar {
  readonly label: string;
  readonly value: number;
  /** The value as it is read. */
  readonly shown: string;
  /** More lines of the tooltip. */
  readonly more?: readonly (readonly [string, string])[];
  /** Others are chosen, this one is not. */
  readonly isDimmed: boolean;
}

const LABEL_MARGIN = 10;
/** Of a letter of ordinary width. */
const LETTER_PX = 7;
const STEP_PX = 24;

/** What the longest text takes, roughly. In wide steps, so that the picture stands still while bars change places. */
function widthOf(texts: readonly string[], most: number): number {
  const letters = Math.max(0, ...texts.map(({ length }) => length));
  return Math.min(most, Math.ceil((letters * LETTER_PX) / STEP_PX) * STEP_PX);
}

export function ranking(bars: readonly Bar[], measure: string, isNarrow: boolean, theme: Theme): EChartsOption {
  const width = widthOf(bars.map(({ label }) => label), isNarrow ? 112 : 200);
  const right = LABEL_MARGIN + widthOf(bars.map(({ shown }) => shown), 120);
  return {
    ...base(theme),
    grid: { left: width + LABEL_MARGIN, right, top: 0, bottom: 0, outerBoundsMode: 'none' },
    // The longest bar fills its place, and its value stands beside it.
    xAxis: { type: 'value', show: false, min: 0, max: 'dataMax' },
    yAxis: {
      type: 'category',
      inverse: true,
      data: bars.map(({ label }) => label),
      axisLine: { show: false },
      axisTick: { show: false },
      axisLabel: { color: theme.text, width, overflow: 'truncate', margin: LABEL_MARGIN, fontSize: 12.5 },
      triggerEvent: false,
    },
    series: [
      {
        type: 'bar',
        id: 'bars',
        barWidth: '58%',
        barMaxWidth: 24,
        cursor: 'pointer',
        data: bars.map(({ value, isDimmed }) => ({
          value,
          itemStyle: { color: isDimmed ? theme.accentSoft : theme.accent },
        })),
        itemStyle: { borderRadius: [0, 4, 4, 0] },
        showBackground: true,
        backgroundStyle: { color: theme.line, opacity: 0.35, borderRadius: [0, 4, 4, 0] },
        label: {
          show: true,
          position: 'right',
          color: theme.muted,
          fontSize: 12,
          formatter: ({ dataIndex }) => bars[dataIndex]?.shown ?? '',
        },
        emphasis: { itemStyle: { opacity: 0.85 } },
      },
    ],
    tooltip: {
      ...(base(theme).tooltip as object),
      trigger: 'item',
      formatter: (parameters: unknown) => {
        const bar = bars[indexOf(parameters)];
        return bar === undefined ? '' : tooltip(bar.label, [[measure, bar.shown], ...(bar.more ?? [])]);
      },
    },
  };
}
