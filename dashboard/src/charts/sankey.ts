// Paths as bands between pages.
import type { EChartsOption } from 'echarts';
import type { Flow, Node } from '../data/paths.ts';
import { type Theme, base } from './theme.ts';
import { tooltip } from './tooltip.ts';

interface Words {
  readonly name: (page: Node['page']) => string;
  readonly count: (count: number) => string;
  readonly measure: string;
}

export function sankey(flow: Flow, words: Words, isNarrow: boolean, theme: Theme): EChartsOption {
  const names = new Map(flow.nodes.map(({ id, page }) => [id, words.name(page)]));
  const counts = new Map(flow.nodes.map(({ id, count }) => [id, count]));
  const hasMiddle = flow.nodes.some(({ side }) => side === 'through');
  const depth = ({ side }: Node): number => (side === 'from' ? 0 : side === 'through' ? 1 : hasMiddle ? 2 : 1);
  const label = (id: string): string => names.get(id) ?? '';
  return {
    ...base(theme),
    series: [
      {
        type: 'sankey',
        id: 'paths',
        left: 0,
        right: isNarrow ? 110 : 190,
        // A label is higher than a thin band.
        top: 8,
        bottom: 10,
        nodeWidth: 10,
        nodeGap: 14,
        layoutIterations: 0,
        draggable: false,
        cursor: 'pointer',
        data: flow.nodes.map((node) => ({
          name: node.id,
          depth: depth(node),
          itemStyle: { color: node.side === 'through' ? theme.series[1] : theme.accent, borderWidth: 0, borderRadius: 3 },
        })),
        links: flow.links.map(({ source, target, count }) => ({ source, target, value: count })),
        lineStyle: { color: theme.accent, opacity: 0.16, curveness: 0.5 },
        emphasis: { focus: 'adjacency', lineStyle: { opacity: 0.42 } },
        blur: { lineStyle: { opacity: 0.05 }, itemStyle: { opacity: 0.3 }, label: { opacity: 0.3 } },
        label: {
          color: theme.text,
          fontSize: 12,
          width: isNarrow ? 100 : 180,
          overflow: 'truncate',
          formatter: ({ name }) => label(name),
        },
      },
    ],
    tooltip: {
      ...(base(theme).tooltip as object),
      trigger: 'item',
      formatter: (parameters: unknown) => {
        const { dataType, name, data } = parameters as { dataType?: string; name: string; data: { source?: string; target?: string; value?: number } };
        if (dataType === 'edge') {
          const title = `${label(data.source ?? '')} → ${label(data.target ?? '')}`;
          return tooltip(title, [[words.measure, words.count(data.value ?? 0)]]);
        }
        return tooltip(label(name), [[words.measure, words.count(counts.get(name) ?? 0)]]);
      },
    },
  };
}
