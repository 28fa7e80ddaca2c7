// A picture drawn by ECharts.
//
// Owns: the instance, its size, clicks, zooming by a drag, and its PNG. Does not own: what is drawn (the other files here).
import type { ECharts, EChartsOption } from 'echarts';
import type { RefObject } from 'preact';
import { useEffect, useImperativeHandle, useRef, useState } from 'preact/hooks';
import { useShared } from '../ui/context.ts';

/** What was clicked. */
export interface Pick {
  readonly index: number;
  readonly name: string;
  /** Of a Sankey diagram: `node` or `edge`. */
  readonly kind: string | undefined;
}

export interface ChartHandle {
  /** A data URL; `null` before anything is drawn. */
  png(): string | null;
}

interface Properties {
  readonly option: EChartsOption;
  /** For those who do not see it. */
  readonly label: string;
  readonly height: number;
  readonly handle: RefObject<ChartHandle>;
  readonly onPick?: ((pick: Pick) => void) | undefined;
  /** First and last index on the x axis that a drag went over. */
  readonly onZoom?: ((first: number, last: number) => void) | undefined;
}

/** Less is a click with an unsteady hand. */
const LEAST_DRAG_PX = 6;

const library = import('./echarts.ts');

export function Chart({ option, label, height, handle, onPick, onZoom }: Properties) {
  const { theme } = useShared();
  const container = useRef<HTMLDivElement>(null);
  const [chart, setChart] = useState<ECharts | null>(null);
  const picked = useRef(onPick);
  picked.current = onPick;

  useEffect(() => {
    let made: ECharts | undefined;
    let isGone = false;
    const resized = new ResizeObserver(() => made?.resize({ animation: { duration: 0 } }));
    void library.then(({ init }) => {
      if (isGone || container.current === null) return;
      made = init(container.current);
      made.on('click', ({ dataIndex, name, dataType }) => picked.current?.({ index: dataIndex, name, kind: dataType }));
      resized.observe(container.current);
      setChart(made);
    });
    return () => {
      isGone = true;
      resized.disconnect();
      made?.dispose();
    };
  }, []);

  const drawn = useRef<unknown>(null);
  useEffect(() => {
    if (chart === null) return;
    // Other colours are another picture; otherwise it moves from what it was.
    const isSame = drawn.current === theme;
    chart.setOption(option, isSame ? { replaceMerge: ['series', 'xAxis', 'yAxis', 'visualMap'] } : { notMerge: true });
    drawn.current = theme;
  }, [chart, option, theme]);

  useImperativeHandle(
    handle,
    () => ({ png: () => chart?.getDataURL({ type: 'png', pixelRatio: 2, backgroundColor: theme.surface }) ?? null }),
    [chart, theme],
  );

  return (
    <div class="picture">
      <div ref={container} class="canvas" style={{ height: `${height}px` }} role="img" aria-label={label} />
      {chart !== null && onZoom !== undefined && <Zoom chart={chart} container={container} onZoom={onZoom} />}
    </div>
  );
}

interface ZoomProperties {
  readonly chart: ECharts;
  readonly container: RefObject<HTMLDivElement>;
  readonly onZoom: (first: number, last: number) => void;
}

/** A drag with the mouse over the picture; a finger scrolls the page instead. */
function Zoom({ chart, container, onZoom }: ZoomProperties) {
  const [drag, setDrag] = useState<{ readonly from: number; readonly to: number } | null>(null);
  const current = useRef(drag);
  const zoomed = useRef(onZoom);
  zoomed.current = onZoom;

  useEffect(() => {
    const element = container.current;
    if (element === null) return;
    const change = (next: typeof current.current): void => {
      current.current = next;
      setDrag(next);
    };
    const x = (event: PointerEvent): number => event.clientX - element.getBoundingClientRect().left;
    const down = (event: PointerEvent): void => {
      const isInside = chart.containPixel('grid', [event.offsetX, event.offsetY]);
      if (event.pointerType === 'touch' || event.button !== 0 || !isInside) return;
      change({ from: x(event), to: x(event) });
    };
    const move = (event: PointerEvent): void => {
      if (current.current !== null) change({ ...current.current, to: x(event) });
    };
    const up = (): void => {
      const ended = current.current;
      change(null);
      if (ended === null || Math.abs(ended.to - ended.from) < LEAST_DRAG_PX) return;
      const index = (pixel: number): number => chart.convertFromPixel({ xAxisIndex: 0 }, pixel);
      const [a, b] = [index(ended.from), index(ended.to)];
      zoomed.current(Math.max(0, Math.min(a, b)), Math.max(a, b));
    };
    element.addEventListener('pointerdown', down);
    window.addEventListener('pointermove', move);
    window.addEventListener('pointerup', up);
    return () => {
      element.removeEventListener('pointerdown', down);
      window.removeEventListener('pointermove', move);
      window.removeEventListener('pointerup', up);
    };
  }, [chart, container]);

  if (drag === null) return null;
  const style = { left: `${Math.min(drag.from, drag.to)}px`, width: `${Math.abs(drag.to - drag.from)}px` };
  return <div class="drag" style={style} />;
}
