// The regions on the map, darker where there is more.
import type { EChartsOption } from 'echarts';
import type { Bar } from './ranking.ts';
import { type Theme, base } from './theme.ts';
import { tooltip } from './tooltip.ts';

export interface Area extends Bar {
  readonly isChosen: boolean;
}

export function map(areas: readonly Area[], measure: string, axis: (value: number) => string, theme: Theme): EChartsOption {
  const most = Math.max(...areas.map(({ value }) => value), 1);
  return {
    ...base(theme),
    visualMap: {
      type: 'continuous',
      min: 0,
      max: most,
      left: 0,
      bottom: 0,
      itemWidth: 8,
      itemHeight: 90,
      text: [axis(most), axis(0)],
      textStyle: { color: theme.muted, fontSize: 11 },
      inRange: { color: [...theme.ramp] },
      calculable: false,
      hoverLink: false,
    },
    series: [
      {
        type: 'map',
        id: 'regions',
        map: 'regions',
        aspectScale: 1,
        layoutCenter: ['50%', '50%'],
        layoutSize: '97%',
        cursor: 'pointer',
        selectedMode: false,
        data: areas.map(({ label, value, isChosen, isDimmed }) => ({
          name: label,
          value,
          itemStyle: isChosen
            ? { borderColor: theme.text, borderWidth: 2 }
            : { opacity: isDimmed ? 0.35 : 1 },
        })),
        itemStyle: { areaColor: theme.line, borderColor: theme.surface, borderWidth: 1 },
        label: { show: false },
        emphasis: { label: { show: false }, itemStyle: { areaColor: 'inherit', borderColor: theme.text, borderWidth: 1.5 } },
      },
    ],
    tooltip: {
      ...(base(theme).tooltip as object),
      trigger: 'item',
      formatter: (parameters: unknown) => {
        const { name } = parameters as { name: string };
        const area = areas.find(({ label }) => label === name);
        return tooltip(name, area === undefined ? [[measure, '—']] : [[measure, area.shown], ...(area.more ?? [])]);
      },
    },
  };
}
