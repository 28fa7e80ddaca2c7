// The parts of ECharts that the page uses, and the map. Loaded after the page itself, which needs none of it to show figures.
import { BarChart, HeatmapChart, LineChart, MapChart, PieChart, SankeyChart } from 'echarts/charts';
import { GeoComponent, GridComponent, LegendComponent, TooltipComponent, VisualMapComponent } from 'echarts/components';
import { init, use as install, registerMap } from 'echarts/core';
import { CanvasRenderer } from 'echarts/renderers';
import regions from '../map/regions.json';

install([
  BarChart,
  CanvasRenderer,
  GeoComponent,
  GridComponent,
  HeatmapChart,
  LegendComponent,
  LineChart,
  MapChart,
  PieChart,
  SankeyChart,
  TooltipComponent,
  VisualMapComponent,
]);

registerMap('regions', regions as Parameters<typeof registerMap>[1]);

export { init };

/** The names that the map knows. */
export const regionNames: ReadonlySet<string> = new Set(regions.features.map(({ properties }) => properties.name));
