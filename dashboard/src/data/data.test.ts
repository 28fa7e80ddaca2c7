// The pure parts of `data`: exact quotients, CSV, paths, the week, rates.
import { describe, expect, it } from 'vitest';
import type { Pipeline } from '../api/types.ts';
import { csv } from './csv.ts';
import { divide } from './decimal.ts';
import { type Flow, type Step, flow, hostOf, through } from './paths.ts';
import { MOST_SAMPLES, between, remember } from './throughput.ts';
import { week } from './week.ts';

describe('divide', () => {
  it('is exact where floating point is not', () => {
    expect(divide('90071992547409931.00', 1, 2)).toBe('90071992547409931.00');
    expect(divide('100.00', 3, 2)).toBe('33.33');
    expect(divide('0.30', 3, 2)).toBe('0.10');
    expect(divide('-10.00', 4, 2)).toBe('-2.50');
    expect(divide('7', 2, 0)).toBe('4');
  });

  it('rounds halves to even', () => {
    expect(divide('0.05', 2, 2)).toBe('0.02');
    expect(divide('0.07', 2, 2)).toBe('0.04');
    expect(divide('-0.01', 4, 2)).toBe('0.00');
  });

  it('has no quotient by nothing, nor of what is no number', () => {
    expect(divide('1.00', 0, 2)).toBeNull();
    expect(divide('many', 2, 2)).toBeNull();
  });
});

describe('csv', () => {
  it('quotes what needs it', () => {
    expect(csv(['a', 'b'], [['x, "y"', 'l1\nl2'], [null, 1.5]])).toBe('\uFEFFa,b\r\n"x, ""y""","l1\nl2"\r\n,1.5\r\n');
  });

  it('runs no formulas, and leaves numbers numbers', () => {
    const [, row = ''] = csv(['a'], [['=HYPERLINK("http://x")', '@x', '-5.20', '-x', '+1']]).split('\r\n');
    expect(row).toBe(`"'=HYPERLINK(""http://x"")",'@x,-5.20,'-x,'+1`);
  });
});

describe('paths', () => {
  const steps: Step[] = [
    { from: null, to: '/', count: 5 },
    { from: '/', to: '/a', count: 4 },
    { from: '/a', to: '/', count: 3 },
    { from: '/a', to: '/a', count: 2 },
    { from: 'https://search.example/?q=1', to: '/', count: 1 },
  ];
  const total = (steps: readonly { count: number }[]): number => steps.reduce((sum, { count }) => sum + count, 0);
  const isWithoutCycles = ({ nodes, links }: Flow): boolean => {
    const column = { from: 0, through: 1, to: 2 };
    const side = new Map(nodes.map((node) => [node.id, column[node.side]]));
    return links.every(({ source, target }) => (side.get(source) ?? 9) < (side.get(target) ?? -1));
  };

  it('go from left to right only, and lose no step', () => {
    const shown = flow(steps, 10);
    expect(isWithoutCycles(shown)).toBe(true);
    expect(total(shown.links)).toBe(15);
    expect(shown.nodes.filter(({ side }) => side === 'from').map(({ page }) => page)).toEqual([null, '/a', '/', 'search.example']);
  });

  it('put the rare ones together', () => {
    const shown = flow(steps, 2);
    expect(shown.nodes.filter(({ side }) => side === 'from').map(({ page }) => page)).toEqual([undefined, null]);
    expect(total(shown.links)).toBe(15);
  });

  it('put the pages of a large folder together, unless they are to be kept', () => {
    const many = [1, 2, 3, 4, 5].map((n): Step => ({ from: '/', to: `/produit/${n}`, count: n }));
    expect(flow(many, 10).links).toEqual([{ source: 'from page /', target: 'to page /produit/…', count: 15 }]);
    expect(flow(many, 10, new Set(['/produit/3'])).links.map(({ count }) => count)).toEqual([12, 3]);
  });

  it('stand through the chosen pages', () => {
    const into = steps.filter(({ to }) => to === '/a');
    const outOf = steps.filter(({ from }) => from === '/a');
    const shown = through(into, outOf, ['/a'], 10);
    expect(shown.nodes.filter(({ side }) => side === 'through')).toEqual([{ id: 'through page /a', side: 'through', page: '/a', count: 6 }]);
    expect(total(shown.links.filter(({ target }) => target === 'through page /a'))).toBe(6);
  });

  it('know other sites', () => {
    expect([hostOf('https://a.example/x'), hostOf('/x'), hostOf('')]).toEqual(['a.example', null, null]);
  });
});

describe('week', () => {
  const at = (text: string): number => Date.parse(text);

  it('is the average of complete hours, quiet ones counted', () => {
    const range = { from: at('2026-01-05T00:00:00Z'), to: at('2026-01-19T00:00:00Z') };
    const counts = new Map([[at('2026-01-05T09:00:00Z'), 10]]);
    const slots = week(counts, range, at('2026-01-12T09:30:00Z'), 'UTC');
    expect(slots.find(({ weekday, hour }) => weekday === 0 && hour === 8)).toEqual({ weekday: 0, hour: 8, hours: 2, sum: 0 });
    expect(slots.find(({ weekday, hour }) => weekday === 0 && hour === 9)).toEqual({ weekday: 0, hour: 9, hours: 1, sum: 10 });
  });

  it('stands in the zone of the stream', () => {
    const range = { from: at('2026-03-29T00:00:00Z'), to: at('2026-03-29T02:00:00Z') };
    const slots = week(new Map(), range, at('2027-01-01T00:00:00Z'), 'Europe/Paris');
    expect(slots.map(({ hour }) => hour)).toEqual([1, 3]);
  });
});

describe('throughput', () => {
  const report = (at: string, next: number | null, end: number): Pipeline => {
    const sink = { next, lag_records: null, lag_seconds: null, event_time: null };
    const partition = { partition: 0, log_start: 0, log_end: end, mongo: sink, lake: null, lag_records: null, lag_seconds: null };
    const stream = { stream: 's', topic: 's', lake_version: null, lag_records: null, lag_seconds: null, watermark: null, mongo_watermark: null, lake_watermark: null, partitions: [partition], losses: [], notices: [], problems: [] };
    return { status: { job: 'j', at, complete: true, lag_records: null, lag_seconds: null, streams: [stream] }, parts: [] };
  };

  it('is what moved per second; unknown stays unknown', () => {
    const sample = between(report('2026-01-01T00:00:00Z', 100, 100), report('2026-01-01T00:00:05Z', 150, 200));
    expect(sample?.streams.s).toEqual({ produced: 20, mongo: 10, lake: null });
  });

  it('tells nothing of the same report, and no rate of a step back', () => {
    const first = report('2026-01-01T00:00:00Z', 100, 100);
    expect(between(first, first)).toBeNull();
    expect(between(first, report('2026-01-01T00:00:05Z', 50, 100))?.streams.s?.mongo).toBeNull();
    expect(between(first, report('2026-01-01T00:00:05Z', null, 100))?.streams.s?.mongo).toBeNull();
  });

  it('is remembered for a while', () => {
    const samples = Array.from({ length: 200 }, (_, at) => ({ at, streams: {} }));
    const kept = samples.reduce<typeof samples>((before, sample) => remember(before, sample), []);
    expect([kept.length, kept.at(-1)?.at]).toEqual([MOST_SAMPLES, 199]);
  });
});
