// Shares of a whole, as a ring.
import type { EChartsOption } from 'echarts';
import type { Bar } from './ranking.ts';
import { type Theme, base, rampAt } from './theme.ts';
import { indexOf, tooltip } from './tooltip.ts';

export function share(parts: readonly Bar[], measure: string, percent: (share: number) => string, isNarrow: boolean, theme: Theme): EChartsOption {
  const whole = parts.reduce((sum, { value }) => sum + value, 0);
  const of = (value: number): string => (whole > 0 ? percent(value / whole) : '—');
  return {
    ...base(theme),
    series: [
      {
        type: 'pie',
        id: 'ring',
        radius: isNarrow ? ['32%', '50%'] : ['48%', '74%'],
        center: ['50%', '50%'],
        startAngle: 90,
        cursor: 'pointer',
        minAngle: 2,
        data: parts.map(({ label, value, isDimmed }, index) => ({
          name: label,
          value,
          itemStyle: { color: rampAt(theme, 1 - index / Math.max(1, parts.length - 1)), opacity: isDimmed ? 0.3 : 1 },
        })),
        itemStyle: { borderColor: theme.surface, borderWidth: 2, borderRadius: 4 },
        label: {
          color: theme.text,
          fontSize: isNarrow ? 11 : 12,
          lineHeight: 16,
          formatter: ({ dataIndex, name }) => `${name}\n{share|${of(parts[dataIndex]?.value ?? 0)}}`,
          rich: { share: { color: theme.muted, fontSize: 12 } },
        },
        labelLine: { length: isNarrow ? 8 : 16, length2: 8, lineStyle: { color: theme.line } },
        labelLayout: { hideOverlap: true },
        emphasis: { scaleSize: 4 },
      },
    ],
    tooltip: {
      ...(base(theme).tooltip as object),
      trigger: 'item',
      formatter: (parameters: unknown) => {
        const part = parts[indexOf(parameters)];
        if (part === undefined) return '';
        return tooltip(`${part.label} · ${of(part.value)}`, [[measure, part.shown], ...(part.more ?? [])]);
      },
    },
  };
}
