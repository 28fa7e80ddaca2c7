// Browsing paths as two columns: the pages that visitors came from, and those they went to.
//
// Owns: which pages are shown by themselves, which are put together, and the form without cycles. People walk in circles,
// but a Sankey diagram cannot: so a page stands on both sides, once as an origin, once as a destination.
// Does not own: drawing (`charts/sankey`). Counts are whole numbers, so adding them here is exact.

/** So many clicks led from one page to another; `from` is `null` for visitors who came from nowhere. */
export interface Step {
  readonly from: string | null;
  readonly to: string;
  readonly count: number;
}

export interface Node {
  /** Unique over both sides. */
  readonly id: string;
  readonly side: 'from' | 'through' | 'to';
  /** A page, `/folder/…` for several, `null`: from nowhere; `undefined`: all others. */
  readonly page: string | null | undefined;
  readonly count: number;
}

export interface Link {
  readonly source: string;
  readonly target: string;
  readonly count: number;
}

export interface Flow {
  readonly nodes: readonly Node[];
  readonly links: readonly Link[];
}

/** A folder with more pages than this is shown as one. */
const MOST_PAGES_OF_A_FOLDER = 4;

/** `most`: nodes on each side, the one for all others included. `kept`: pages that are shown by themselves in any case. */
export function flow(steps: readonly Step[], most: number, kept: ReadonlySet<string> = new Set()): Flow {
  const folded = families(steps.flatMap(({ from, to }) => (from === null ? [to] : [from, to])));
  const family = (page: string): string => (kept.has(page) ? page : folded(page));
  const from = (step: Step): string | null => (step.from === null ? null : family(step.from));
  const to = (step: Step): string => family(step.to);
  const origins = largest(steps, from, most);
  const destinations = largest(steps, to, most);

  const nodes = new Map<string, { side: Node['side']; page: Node['page']; count: number }>();
  const links = new Map<string, { source: string; target: string; count: number }>();
  const add = (side: Node['side'], page: Node['page'], count: number): string => {
    const id = `${side} ${page === undefined ? 'others' : page === null ? 'nowhere' : `page ${page}`}`;
    const node = nodes.get(id);
    if (node === undefined) nodes.set(id, { side, page, count });
    else node.count += count;
    return id;
  };
  for (const step of steps) {
    const [origin, destination] = [from(step), to(step)];
    const source = add('from', origins.has(origin) ? origin : undefined, step.count);
    const target = add('to', destinations.has(destination) ? destination : undefined, step.count);
    const key = `${source}\n${target}`;
    const link = links.get(key);
    if (link === undefined) links.set(key, { source, target, count: step.count });
    else link.count += step.count;
  }
  const byCount = <T extends { count: number }>(a: T, b: T): number => b.count - a.count;
  return {
    nodes: [...nodes].map(([id, node]) => ({ id, ...node })).sort(byCount),
    links: [...links.values()].sort(byCount),
  };
}

/** Some pages in the middle, between where their visitors came from and where they went. */
export function through(into: readonly Step[], outOf: readonly Step[], pages: readonly string[], most: number): Flow {
  const kept = new Set(pages);
  const [before, after] = [flow(into, most, kept), flow(outOf, most, kept)];
  const middle = new Map<string, Node>();
  const moved = (flowed: Flow, side: Node['side']): Flow => {
    const names = new Map<string, string>();
    for (const node of flowed.nodes) {
      if (node.side !== side || typeof node.page !== 'string' || !kept.has(node.page)) continue;
      const id = `through page ${node.page}`;
      names.set(node.id, id);
      // What comes in need not go out: a node is as high as the larger of both.
      middle.set(id, { id, side: 'through', page: node.page, count: Math.max(node.count, middle.get(id)?.count ?? 0) });
    }
    return {
      nodes: flowed.nodes.filter(({ id }) => !names.has(id)),
      links: flowed.links.map((link) => ({
        source: names.get(link.source) ?? link.source,
        target: names.get(link.target) ?? link.target,
        count: link.count,
      })),
    };
  };
  const [left, right] = [moved(before, 'to'), moved(after, 'from')];
  return { nodes: [...left.nodes, ...middle.values(), ...right.nodes], links: [...left.links, ...right.links] };
}

/** Shows a page as itself, or as its folder where that has many. A page of another site is its host. */
function families(pages: readonly string[]): (page: string) => string {
  const folders = new Map<string, Set<string>>();
  for (const page of pages) {
    const folder = folderOf(page);
    if (folder !== null) folders.set(folder, (folders.get(folder) ?? new Set()).add(page));
  }
  return (page) => {
    const host = hostOf(page);
    if (host !== null) return host;
    const folder = folderOf(page);
    const isLarge = folder !== null && (folders.get(folder)?.size ?? 0) > MOST_PAGES_OF_A_FOLDER;
    return isLarge ? `${folder}…` : page;
  };
}

function folderOf(page: string): string | null {
  return /^(\/[^/]+\/)[^/]/.exec(page)?.[1] ?? null;
}

/** The host of an address on another site; `null` for a path. */
export function hostOf(page: string): string | null {
  return /^https?:\/\/([^/]+)/.exec(page)?.[1] ?? null;
}

function largest<K>(steps: readonly Step[], key: (step: Step) => K, most: number): Set<K> {
  const counts = new Map<K, number>();
  for (const step of steps) counts.set(key(step), (counts.get(key(step)) ?? 0) + step.count);
  const ranked = [...counts].sort(([, a], [, b]) => b - a).map(([name]) => name);
  return new Set(ranked.length > most ? ranked.slice(0, most - 1) : ranked);
}
