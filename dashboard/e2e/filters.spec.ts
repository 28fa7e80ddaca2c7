// Every picture that can be clicked filters everything else by what was clicked: the map, the bars, the ring, the paths.
import { readFileSync } from 'node:fs';
import type { Locator, Page } from '@playwright/test';
import { aggregate, card, expect, figure, money, newestPeriod, search, test } from './page.ts';

interface Point {
  readonly x: number;
  readonly y: number;
}

interface Size {
  readonly width: number;
  readonly height: number;
}

/** Clicks the picture of a card once it is at rest, and again where it was still another one's: new data were under way. */
async function pick(page: Page, title: string, at: (size: Size) => Point, field: string, value: string): Promise<void> {
  const canvas = card(page, title).locator('canvas');
  await expect(canvas).toBeVisible();
  await expect(async () => {
    const other = new URL(page.url()).searchParams.get(field);
    if (other !== null) await page.getByRole('button', { name: `: ${other}` }).click();
    await rest(canvas);
    await canvas.click({ position: at(await sizeOf(canvas)) });
    await expect(page).toHaveURL((url) => url.searchParams.get(field) === value, { timeout: 2_000 });
  }).toPass();
}

/** Waits until a picture no longer moves. */
async function rest(picture: Locator): Promise<void> {
  let before = await picture.screenshot();
  await expect(async () => {
    const now = await picture.screenshot();
    const isAtRest = now.equals(before);
    before = now;
    expect(isAtRest).toBe(true);
  }).toPass({ intervals: [200] });
}

async function sizeOf(element: Locator): Promise<Size> {
  const box = await element.boundingBox();
  if (box === null) throw new Error('the picture has no place');
  return box;
}

type Ring = readonly (readonly [number, number])[];

interface Map {
  readonly features: readonly {
    readonly properties: { readonly name: string };
    readonly geometry: { readonly type: 'Polygon'; readonly coordinates: readonly Ring[] } | { readonly type: 'MultiPolygon'; readonly coordinates: readonly (readonly Ring[])[] };
  }[];
}

const map = JSON.parse(readFileSync(new URL('../src/map/regions.json', import.meta.url), 'utf8')) as Map;

function rings({ geometry }: Map['features'][number]): Ring[] {
  return geometry.type === 'Polygon' ? geometry.coordinates.slice(0, 1) : geometry.coordinates.flatMap((polygon) => polygon.slice(0, 1));
}

/** Twice the area, and the centre of gravity. */
function centre(ring: Ring): { area: number; x: number; y: number } {
  const sums = { area: 0, x: 0, y: 0 };
  for (const [index, [x, y]] of ring.entries()) {
    const [nextX, nextY] = ring[(index + 1) % ring.length] ?? [x, y];
    const cross = x * nextY - nextX * y;
    sums.area += cross;
    sums.x += (x + nextX) * cross;
    sums.y += (y + nextY) * cross;
  }
  return { area: Math.abs(sums.area), x: sums.x / (3 * sums.area), y: sums.y / (3 * sums.area) };
}

/** Where the map, drawn as large as fits into 97 % of the picture, has the middle of a region. */
function onMap(region: string): (size: Size) => Point {
  const all = map.features.flatMap(rings).flat();
  const [xs, ys] = [all.map(([x]) => x), all.map(([, y]) => y)];
  const [left, right, bottom, top] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const [feature] = map.features.filter(({ properties }) => properties.name === region);
  if (feature === undefined) throw new Error(`the map has no ${region}`);
  const [largest] = rings(feature).map(centre).sort((a, b) => b.area - a.area);
  if (largest === undefined) throw new Error(`${region} has no shape`);
  return ({ width, height }) => {
    const scale = (0.97 * Math.min(width, height)) / Math.max(right - left, top - bottom);
    return { x: width / 2 + scale * (largest.x - (left + right) / 2), y: height / 2 - scale * (largest.y - (bottom + top) / 2) };
  };
}

/** The first of so many bars. */
function firstBar(bars: number): (size: Size) => Point {
  return ({ width, height }) => ({ x: width * 0.45, y: height / bars / 2 });
}

/** A little to the right of the top of the ring: its first and largest part. */
function firstOfRing({ width, height }: Size): Point {
  const radius = (0.61 * Math.min(width, height)) / 2;
  const angle = 0.15;
  return { x: width / 2 + radius * Math.sin(angle), y: height / 2 - radius * Math.cos(angle) };
}

for (const region of ['Bretagne', 'Occitanie']) {
  test(`a click on ${region} on the map`, async ({ page, request }) => {
    const period = await newestPeriod(request, 'sales', 'sales');
    const part = await aggregate(request, 'sales', { ...period, measures: 'revenue', filter: `region:${region}` });
    await page.goto(`./${search(period)}`);
    await pick(page, 'Regions', onMap(region), 'region', region);
    await expect(figure(page, 'revenue')).toHaveText(money(String(part.rows[0]?.[0])));
    await expect(page.getByRole('button', { name: `Remove the filter Region: ${region}` })).toBeVisible();
  });
}

test('a click on the largest part of the ring of categories', async ({ page, request }) => {
  const period = await newestPeriod(request, 'sales', 'sales');
  const top = await aggregate(request, 'sales', { ...period, measures: 'revenue', by: 'category', order: '-revenue', limit: '1' });
  const [category, revenue] = top.rows[0] ?? [];
  await page.goto(`./${search(period)}`);
  await pick(page, 'Categories', firstOfRing, 'category', String(category));
  await expect(figure(page, 'revenue')).toHaveText(money(String(revenue)));
});

test('clicks on several pictures, one after the other', async ({ page, request }) => {
  const period = await newestPeriod(request, 'sales', 'sales');
  await page.goto(`./${search(period)}`);
  await pick(page, 'Regions', onMap('Occitanie'), 'region', 'Occitanie');
  const filter = 'region:Occitanie';
  const top = await aggregate(request, 'sales', { ...period, measures: 'revenue', by: 'product', filter, order: '-revenue', limit: '1' });
  const [product, revenue] = top.rows[0] ?? [];
  await expect(figure(page, 'revenue')).not.toHaveText('');
  await pick(page, 'Top products', firstBar(10), 'product', String(product));
  await expect(figure(page, 'revenue')).toHaveText(money(String(revenue)));
  await page.getByRole('button', { name: 'Clear all' }).click();
  const whole = await aggregate(request, 'sales', { ...period, measures: 'revenue' });
  await expect(figure(page, 'revenue')).toHaveText(money(String(whole.rows[0]?.[0])));
});

test('a click on the bar of a page', async ({ page, request }) => {
  const period = await newestPeriod(request, 'clicks', 'clicks');
  const top = await aggregate(request, 'clicks', { ...period, measures: 'clicks', by: 'page', order: '-clicks', limit: '15' });
  const [path, clicks] = top.rows[0] ?? [];
  await page.goto(`./${search({ view: 'clicks', ...period })}`);
  await pick(page, 'Clicks per page', firstBar(top.rows.length), 'page', String(path));
  await expect(figure(page, 'clicks')).toHaveText(new Intl.NumberFormat('en-GB').format(Number(clicks)));
});

test('a page that is typed', async ({ page, request }) => {
  const period = await newestPeriod(request, 'clicks', 'clicks');
  const part = await aggregate(request, 'clicks', { ...period, measures: 'clicks', filter: 'page:/panier' });
  await page.goto(`./${search({ view: 'clicks', ...period })}`);
  const input = page.getByRole('group', { name: 'Filters' }).getByLabel('Page');
  await input.focus();
  await expect(page.locator('datalist option[value="/panier"]')).toHaveCount(1);
  await input.fill('/panier');
  await expect(page).toHaveURL((url) => url.searchParams.get('page') === '/panier');
  await expect(figure(page, 'clicks')).toHaveText(new Intl.NumberFormat('en-GB').format(Number(part.rows[0]?.[0])));
});
