// The mock's shop: numbers from a hash of hour and product, so that equal questions have equal answers.
type Cell = string | number | null;

interface Answered {
  readonly status: number;
  readonly body: unknown;
}

const REGIONS: readonly [string, number][] = [
  ['Île-de-France', 124], ['Auvergne-Rhône-Alpes', 82], ['Nouvelle-Aquitaine', 62], ['Occitanie', 62], ['Hauts-de-France', 60],
  ["Provence-Alpes-Côte d'Azur", 52], ['Grand Est', 56], ['Pays de la Loire', 39], ['Normandie', 33], ['Bretagne', 35],
  ['Bourgogne-Franche-Comté', 28], ['Centre-Val de Loire', 26], ['Corse', 4],
];
const PRODUCTS: readonly [string, string, number][] = [
  ['Café moulu arabica 250 g', 'Épicerie', 489], ['Champagne brut 75 cl', 'Boissons', 3490], ['Cocotte émaillée 24 cm', 'Cuisine', 18900],
  ['Plaid en laine mérinos', 'Maison', 6990], ['Olivier 120 cm', 'Jardin', 8900], ['Visseuse sans fil 18 V', 'Bricolage', 11900],
  ['Eau de parfum rose 50 ml', 'Beauté', 7200], ['Bande dessinée, intégrale', 'Librairie', 3590], ['Train en bois', 'Jouets', 4990],
  ['Casque à réduction de bruit', 'High-tech', 24900], ['<img src=x onerror=alert(1)>', 'Cuisine', 5450], ['Écran 27 pouces', 'High-tech', 22900],
];
const PAGES = ['/', '/promotions', '/recherche', '/panier', '/commande/livraison', '/commande/paiement', '/commande/confirmation'];
for (const name of ['epicerie', 'boissons', 'cuisine', 'maison', 'jardin', 'jouets']) PAGES.push(`/categorie/${name}`);
for (let i = 0; i < 20; i++) PAGES.push(`/produit/article-${i}`);
const ORIGINS = [null, 'https://www.google.fr/', 'https://www.qwant.com/', 'https://www.instagram.com/'];

const MINUTE = 60_000;
const WIDTHS: Readonly<Record<string, number>> = { '1m': MINUTE, '5m': 5 * MINUTE, '1h': 60 * MINUTE, '1d': 1440 * MINUTE };

const FIELDS = {
  sales: ['sale_id', 'sold_at', 'product', 'category', 'region', 'quantity', 'unit_price', 'amount', 'customer_id', 'channel'],
  clicks: ['event_id', 'occurred_at', 'session_id', 'page', 'referrer', 'element', 'device', 'region'],
};

interface MockRollup {
  readonly name: string;
  readonly every: string;
  readonly dimensions: readonly string[];
  readonly measures: readonly string[];
}

const ROLLUPS: Readonly<Record<string, readonly MockRollup[]>> = {
  sales: [
    { name: 'sales_by_minute', every: '1m', dimensions: ['region'], measures: ['revenue', 'units', 'sales'] },
    { name: 'sales_by_hour', every: '1h', dimensions: ['region', 'product', 'category'], measures: ['revenue', 'units', 'sales'] },
    { name: 'sales_by_day', every: '1d', dimensions: ['region', 'product', 'category'], measures: ['revenue', 'units', 'sales'] },
  ],
  clicks: [
    { name: 'clicks_by_minute', every: '1m', dimensions: ['page'], measures: ['clicks'] },
    { name: 'paths_by_hour', every: '1h', dimensions: ['referrer', 'page'], measures: ['steps'] },
    { name: 'sessions_by_minute', every: '1m', dimensions: [], measures: ['sessions'] },
    { name: 'sessions_by_hour', every: '1h', dimensions: ['device'], measures: ['sessions', 'clicks'] },
  ],
};

const began = Date.now();

export function answer(path: string, parameters: URLSearchParams): Answered {
  if (path === '/streams') return { status: 200, body: { job: 'shop', streams: ['clicks', 'sales'].map(stream) } };
  if (path === '/pipeline') return { status: 200, body: pipeline() };
  const [, name = '', question = ''] = /^\/streams\/(\w+)\/(\w+)$/.exec(path) ?? [];
  if (question === 'records') return { status: 200, body: records(parameters) };
  if (question === 'aggregate') return aggregate(name, parameters);
  return { status: 404, body: { error: { code: 'not_found', message: 'there is nothing here' } } };
}

function stream(name: string): unknown {
  const fields = FIELDS[name as 'sales'];
  return {
    name, topic: name, event_time: fields[1], timezone: 'UTC', mongo: true, lake: true,
    fields: fields.map((field) => ({ name: field, type: 'string', required: false })),
    rollups: ROLLUPS[name]?.map((rollup) => ({
      ...rollup,
      measures: rollup.measures.map((measure) => ({ name: measure, type: measure === 'revenue' ? 'decimal' : 'long' })),
    })),
  };
}

function hash(...numbers: number[]): number {
  let h = 2166136261;
  for (const n of numbers) h = Math.imul(h ^ (n | 0), 16777619) ^ (h >>> 13);
  return ((h >>> 0) % 10_000) / 10_000;
}

/** How busy the shop is. */
function season(time: number): number {
  const at = new Date(time);
  const hour = at.getUTCHours() + at.getUTCMinutes() / 60;
  const day = 0.15 + Math.exp(-((hour - 12.5) ** 2) / 8) * 0.9 + Math.exp(-((hour - 19.5) ** 2) / 6) * 1.2;
  return day * (at.getUTCDay() % 6 === 0 ? 1.35 : 1);
}

interface Fact {
  readonly key: Readonly<Record<string, string | null>>;
  readonly weight: number;
  readonly cents: number;
}

function facts(name: string, measures: readonly string[]): Fact[] {
  if (name === 'sales') {
    return REGIONS.flatMap(([region, people], r) =>
      PRODUCTS.map(([product, category, cents], p) => ({
        key: { region, product, category },
        weight: (people * (0.6 + hash(r, p))) / (p + 4) / 60,
        cents,
      })),
    );
  }
  if (measures.includes('sessions')) {
    return [['mobile', 58], ['desktop', 36], ['tablet', 6]].map(([device, share]) => ({ key: { device: String(device) }, weight: Number(share) / 60, cents: 0 }));
  }
  const isPaths = measures.includes('steps');
  return PAGES.flatMap((page, p) =>
    (isPaths ? [...ORIGINS, ...PAGES] : [null]).map((referrer, r) => ({
      key: isPaths ? { page, referrer } : { page },
      weight: (3 * (isPaths ? (hash(p, r, 7) < 0.4 ? hash(p, r) / (r + 2) : 0) : 1)) / (p + 2),
      cents: 0,
    })),
  );
}

function aggregate(name: string, parameters: URLSearchParams): Answered {
  const [from, to] = [Date.parse(parameters.get('from') ?? ''), Date.parse(parameters.get('to') ?? '')];
  const measures = (parameters.get('measures') ?? '').split(',');
  const by = parameters.get('by')?.split(',') ?? [];
  const every = parameters.get('every');
  const filters = new Map<string, (string | null)[]>();
  for (const filter of parameters.getAll('filter')) {
    const colon = filter.indexOf(':');
    const field = colon < 0 ? filter : filter.slice(0, colon);
    filters.set(field, [...(filters.get(field) ?? []), colon < 0 ? null : filter.slice(colon + 1)]);
  }
  const wanted = [...by, ...filters.keys()];
  const width = WIDTHS[every ?? '1d'] ?? MINUTE;
  const rollups = ROLLUPS[name] ?? [];
  const source = rollups.filter(
    (rollup) =>
      wanted.every((field) => rollup.dimensions.includes(field)) &&
      measures.every((measure) => rollup.measures.includes(measure)) &&
      width % (WIDTHS[rollup.every] ?? 1) === 0,
  );
  const kept = source.at(-1) ?? rollups.find((rollup) => wanted.every((field) => rollup.dimensions.includes(field)) && measures.every((measure) => rollup.measures.includes(measure)));
  if (kept === undefined || (every !== null && source.length === 0)) {
    return { status: 422, body: { error: { code: 'not_answerable', message: `no rollup of stream ${name} has ${wanted.join(', ')}` } } };
  }
  const chosen = facts(name, measures).filter(({ key }) => [...filters].every(([field, values]) => values.includes(key[field] ?? null)));
  const end = Math.min(to, Date.now());
  const begin = Math.max(from, Date.now() - 400 * 1440 * MINUTE);
  const starts: (number | null)[] = [];
  if (every === null) starts.push(null);
  else for (let t = Math.floor(begin / width) * width; t < end; t += width) if (t >= from) starts.push(t);
  const groups = new Map<string, { key: Cell[]; revenue: number; sales: number }>();
  for (const start of starts) {
    const [a, b] = start === null ? [begin, end] : [Math.max(begin, start), Math.min(end, start + width)];
    const busy = mass(a, b);
    const noise = start === null ? 1 : 0.8 + 0.4 * hash(start / MINUTE);
    for (const { key, weight, cents } of chosen) {
      const count = weight * busy * noise;
      const cell: Cell[] = [...(start === null ? [] : [new Date(start).toISOString().replace('.000', '')]), ...by.map((field) => key[field] ?? null)];
      const id = JSON.stringify(cell);
      const group = groups.get(id) ?? { key: cell, revenue: 0, sales: 0 };
      group.sales += count;
      group.revenue += count * cents;
      groups.set(id, group);
    }
  }
  const columns = [...(every === null ? [] : ['t']), ...by, ...measures];
  const measure = (group: { revenue: number; sales: number }, which: string): Cell =>
    which === 'revenue' ? (Math.round(group.revenue) / 100).toFixed(2) : Math.round(group.sales * (which === 'units' ? 1.4 : 1));
  const rows = [...groups.values()]
    .filter(({ sales }) => sales >= 0.5)
    .map((group) => [...group.key, ...measures.map((which) => measure(group, which))]);
  const order = parameters.get('order');
  if (order !== null) {
    const index = columns.indexOf(order.replace('-', ''));
    const sign = order.startsWith('-') ? -1 : 1;
    const number = (cell: Cell | undefined): number => (order.endsWith('t') && columns[index] === 't' ? Date.parse(String(cell)) : Number(cell));
    rows.sort((a, b) => sign * (number(a[index]) - number(b[index])));
  }
  const limit = Number(parameters.get('limit') ?? 10_000);
  return {
    status: 200,
    body: { stream: name, source: kept.name, columns: columns.map((column) => ({ name: column, type: 'string', approximate: column === 'sessions' })), rows: rows.slice(0, limit), complete: rows.length <= limit },
  };
}

/** Busy minutes between two times. */
function mass(from: number, to: number): number {
  let sum = 0;
  const step = Math.max(MINUTE, Math.min(60 * MINUTE, (to - from) / 48));
  for (let t = from; t < to; t += step) sum += season(t) * (Math.min(step, to - t) / MINUTE);
  return sum;
}

function records(parameters: URLSearchParams): unknown {
  const limit = Number(parameters.get('limit') ?? 50);
  const second = Math.floor(Date.now() / 1_500);
  const rows = Array.from({ length: limit }, (_, i) => {
    const n = second - i;
    const [product, category, cents] = PRODUCTS[Math.floor(hash(n, 1) * PRODUCTS.length)] ?? ['', '', 0];
    const region = REGIONS[Math.floor(hash(n, 2) * REGIONS.length)]?.[0] ?? null;
    const price = (cents / 100).toFixed(2);
    return [String(n), `s${n}`, new Date(n * 1_500).toISOString(), product, category, region, 1, price, price, 'c1', 'web'];
  });
  return {
    stream: 'sales', source: 'sales', complete: false, rows,
    columns: ['_id', ...FIELDS.sales].map((name) => ({ name, type: 'string' })),
  };
}

function pipeline(): unknown {
  const now = Date.now();
  const streams = ['clicks', 'sales'].map((name, s) => {
    const partitions = [0, 1, 2].map((partition) => {
      const end = 1_200_000 + partition * 40_000 + Math.floor(((now - began) / 1_000) * (30 + 12 * partition + 20 * s));
      const lag = Math.floor(400 * (1 + Math.sin(now / 9_000 + partition)));
      const sink = (behind: number): unknown => ({ next: end - behind, lag_records: behind, lag_seconds: behind / 40, event_time: new Date(now - behind * 25).toISOString() });
      return { partition, log_start: 200_000, log_end: end, mongo: sink(0), lake: sink(lag), lag_records: lag, lag_seconds: lag / 40 };
    });
    const lag = partitions.reduce((sum, partition) => sum + partition.lag_records, 0);
    const watermark = new Date(now - 4_000).toISOString();
    return {
      stream: name, topic: name, topic_id: 'x', lake_version: 1482 + s, lag_records: lag, lag_seconds: lag / 120,
      watermark, mongo_watermark: watermark, lake_watermark: watermark, partitions, losses: [], notices: [], problems: [],
    };
  });
  const parts = streams.flatMap(({ stream: name }) =>
    ['kafka', 'mongo', 'lake', 'dead_letters'].map((part) => ({ stream: name, part, state: 'ok' })),
  );
  return {
    status: { job: 'shop', at: new Date(now).toISOString(), complete: true, lag_records: streams.reduce((sum, { lag_records }) => sum + lag_records, 0), lag_seconds: 6.4, streams },
    parts,
  };
}
