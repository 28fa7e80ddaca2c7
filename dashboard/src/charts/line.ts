// Lines over time.
//
// Owns: one measure per bucket, the bucket that is not over yet drawn as what it is; and several rates.
import type { EChartsOption } from 'echarts';
import type { Format } from '../i18n/format.ts';
import type { Width } from '../view/period.ts';
import { type Theme, base } from './theme.ts';
import { indexOf, tooltip } from './tooltip.ts';

export interface TimeLine {
  readonly name: string;
  readonly starts: readonly number[];
  readonly values: readonly number[];
  /** Indices of the buckets whose start is written below the axis. */
  readonly marks: ReadonlySet<number>;
  /** How many of the buckets are over; those that have not begun are not in `values`. */
  readonly complete: number;
  readonly width: Width;
  readonly unfinished: string;
  readonly shown: (value: number) => string;
  readonly axis: (value: number) => string;
}

export function timeLine(line: TimeLine, theme: Theme, format: Format): EChartsOption {
  const { starts, values, complete } = line;
  const length = (starts.at(-1) ?? 0) - (starts[0] ?? 0);
  const solid = values.slice(0, Math.max(complete, 1));
  // From the last whole bucket to the one that is being filled.
  const open = complete < values.length ? values.map((value, index) => (index < complete - 1 ? null : value)) : [];
  const common = { type: 'line' as const, symbol: 'circle', symbolSize: 7, showSymbol: values.length === 1 };
  return {
    ...base(theme),
    ...frame(theme),
    xAxis: {
      ...axis(theme),
      type: 'category',
      data: [...starts],
      boundaryGap: false,
      axisLabel: {
        color: theme.muted,
        hideOverlap: true,
        interval: (index: number) => line.marks.has(index),
        formatter: (start: string) => format.mark(Number(start), length),
      },
    },
    yAxis: valueAxis(theme, line.axis),
    series: [
      {
        ...common,
        id: 'complete',
        name: line.name,
        data: solid,
        lineStyle: { width: 2.25, color: theme.accent },
        itemStyle: { color: theme.accent },
        areaStyle: {
          color: {
            type: 'linear',
            x: 0,
            y: 0,
            x2: 0,
            y2: 1,
            colorStops: [
              { offset: 0, color: theme.accentSoft },
              { offset: 1, color: theme.accentNone },
            ],
          },
        },
      },
      {
        ...common,
        id: 'open',
        name: line.name,
        data: open,
        lineStyle: { width: 2, color: theme.accent, type: [3, 4] },
        itemStyle: { color: theme.accent },
      },
    ],
    tooltip: {
      ...(base(theme).tooltip as object),
      trigger: 'axis',
      axisPointer: { type: 'line', lineStyle: { color: theme.muted, type: 'solid', width: 1 } },
      formatter: (parameters: unknown) => {
        const index = indexOf(parameters);
        const [start, value] = [starts[index], values[index]];
        if (start === undefined || value === undefined) return '';
        const name = index >= complete ? `${line.name} (${line.unfinished})` : line.name;
        return tooltip(format.bucket(start, line.width), [[name, line.shown(value)]]);
      },
    },
  };
}

export interface Rate {
  readonly name: string;
  readonly values: readonly (number | null)[];
}

export function rates(times: readonly number[], lines: readonly Rate[], unit: string, theme: Theme, format: Format): EChartsOption {
  return {
    ...base(theme),
    ...frame(theme),
    grid: { ...frame(theme).grid, top: 36 },
    legend: {
      top: 0,
      left: 0,
      icon: 'roundRect',
      itemWidth: 14,
      itemHeight: 4,
      textStyle: { color: theme.muted },
      selectedMode: false,
    },
    xAxis: {
      ...axis(theme),
      type: 'category',
      data: [...times],
      boundaryGap: false,
      axisLabel: { color: theme.muted, hideOverlap: true, alignMinLabel: 'left', alignMaxLabel: 'right', formatter: (time: string) => format.clock(Number(time)) },
    },
    yAxis: valueAxis(theme, (value) => format.short(value)),
    series: lines.map((line, index) => ({
      type: 'line',
      id: line.name,
      name: line.name,
      data: [...line.values],
      showSymbol: times.length < 3,
      symbolSize: 6,
      lineStyle: { width: 2, color: theme.series[index % 3] ?? theme.accent, type: index === 0 ? [4, 4] : 'solid' },
      itemStyle: { color: theme.series[index % 3] ?? theme.accent },
    })),
    tooltip: {
      ...(base(theme).tooltip as object),
      trigger: 'axis',
      axisPointer: { type: 'line', lineStyle: { color: theme.muted, type: 'solid', width: 1 } },
      formatter: (parameters: unknown) => {
        const index = indexOf(parameters);
        const time = times[index];
        if (time === undefined) return '';
        const shown = (value: number | null | undefined): string => (value == null ? '—' : `${format.number(value)} ${unit}`);
        return tooltip(
          format.clock(time),
          lines.map(({ name, values }) => [name, shown(values[index])]),
        );
      },
    },
  };
}

function frame(theme: Theme) {
  return {
    grid: {
      left: 4,
      right: 16,
      top: 14,
      bottom: 4,
      outerBoundsMode: 'same' as const,
      outerBoundsContain: 'axisLabel' as const,
    },
    color: [...theme.series],
  };
}

function axis(theme: Theme) {
  return { axisLine: { lineStyle: { color: theme.line } }, axisTick: { show: false } };
}

function valueAxis(theme: Theme, shown: (value: number) => string): NonNullable<EChartsOption['yAxis']> {
  return {
    type: 'value',
    splitNumber: 4,
    axisLabel: { color: theme.muted, formatter: shown },
    splitLine: { lineStyle: { color: theme.line, type: [2, 4] } },
  };
}
