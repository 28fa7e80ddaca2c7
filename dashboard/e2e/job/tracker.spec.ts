// A visitor walks through the sample shop: what the tracker saw is in both sinks exactly once, and on the page at once.
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer, request as forward } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type BrowserContext, type Page, chromium } from '@playwright/test';
import { figure } from '../page.ts';
import { affluent, asksNoMore, expect, mark, sessionInSinks, setting, test } from './job.ts';

const REGION = 'Bretagne';

/** A view of a page (`element` null), or a click on something of it. */
interface Seen {
  readonly page: string;
  readonly referrer: string | null;
  readonly element: string | null;
  readonly region: string | null;
}

/** A walk by clicks alone: its session, and what there was to see of it. */
async function walk(page: Page): Promise<{ session: string; seen: Seen[] }> {
  const seen: Seen[] = [];
  let at: string | null = null;
  let region: string | null = null;
  const views = async (path: string): Promise<void> => {
    await expect(page).toHaveURL((url) => url.pathname === path);
    await page.waitForLoadState();
    seen.push({ page: path, referrer: at, element: null, region });
    at = path;
  };
  const clicks = async (track: string): Promise<void> => {
    seen.push({ page: at ?? '', referrer: at, element: track, region });
    await page.locator(`[data-track="${track}"]`).click();
  };

  await page.goto(SHOP());
  await views('/shop/');
  await clicks('carte-cafe');
  await views('/shop/cafe');
  // From here on the visitor has said where they live.
  await page.locator('#region').selectOption(REGION);
  region = REGION;
  await clicks('ajouter-cafe');
  await expect(page.locator('#ajoute')).toHaveText('Ajouté : 1 dans le panier.');
  await clicks('ajouter-cafe');
  await expect(page.locator('#compte')).toHaveText('2');
  await clicks('menu-bougie');
  await views('/shop/bougie');
  await clicks('ajouter-bougie');
  await page.goBack();
  await views('/shop/cafe');
  await clicks('menu-panier');
  await views('/shop/panier');
  await expect(page.locator('#lignes tbody tr')).toHaveCount(2);
  await expect(page.locator('#total')).toHaveText(/^29,68\s€$/);
  await clicks('commander');
  await views('/shop/merci');
  await clicks('logo');
  await views('/shop/');
  const session = await page.evaluate(() => sessionStorage.getItem('affluent.session'));
  // What was seen last leaves with the page.
  await page.goto('about:blank');
  return { session: session ?? '', seen };
}

/** Longer than a visitor takes to go on. */
const LATE_MS = 3_000;

const SHOP = (): string => new URL('/shop/', setting('AFFLUENT_SHOP_URL')).href;

/** The clicks of the last day, on a page that stays open. */
async function openClicks(page: Page): Promise<number> {
  await page.goto('./?view=clicks&period=24h');
  await expect(page.getByRole('status').filter({ hasText: 'Live' })).toBeVisible();
  await expect(figure(page, 'clicks')).toHaveText(/\d/);
  await asksNoMore(page);
  return Number((await figure(page, 'clicks').innerText()).replaceAll(',', ''));
}

function showsClicks(page: Page, count: number): Promise<void> {
  return expect(figure(page, 'clicks')).toHaveText(new Intl.NumberFormat('en-GB').format(count));
}

test('every view and click of a visit arrives exactly once', async ({ page, browser }) => {
  const before = await openClicks(page);
  const isTheSame = await mark(page);
  const visitor = await browser.newContext();
  const { session, seen } = await walk(await visitor.newPage());
  await showsClicks(page, before + seen.length);
  await isTheSame();
  expect(await visitor.cookies(), 'cookies').toEqual([]);
  await visitor.close();

  const { mongo, lake } = await sessionInSinks(session, seen.length);
  expect(mongo.map(({ page, referrer, element, region }): Seen => ({ page, referrer, element, region }))).toEqual(seen);
  expect(lake).toEqual(mongo);
  expect(new Set(mongo.map(({ event_id }) => event_id)).size).toBe(seen.length);
  expect(new Set(mongo.map(({ device }) => device))).toEqual(new Set(['desktop']));
  // Both sinks against all that Kafka holds: nothing is there twice.
  await affluent('verify');
  await showsClicks(page, before + seen.length);
});

test('what was under way when the visitor went on is not sent again', async ({ browser }) => {
  const late = await lateCollector();
  const page = await browser.newPage();
  await page.goto(`${late.url}/shop/`);
  await late.received;
  await page.locator('[data-track="carte-cafe"]').click();
  await expect(page).toHaveURL(`${late.url}/shop/cafe`);
  await page.waitForLoadState();
  const session = await page.evaluate(() => sessionStorage.getItem('affluent.session'));
  await page.goto('about:blank');
  const { mongo } = await sessionInSinks(session ?? '', 3);
  expect(mongo.map(({ page, element }) => [page, element])).toEqual([['/shop/', null], ['/shop/', 'carte-cafe'], ['/shop/cafe', null]]);
  await late.end();
});

interface Late {
  readonly url: string;
  /** The first events have arrived, and are not answered yet. */
  readonly received: Promise<unknown>;
  readonly end: () => Promise<unknown>;
}

/** The shop and its collector, which gets everything at once and answers for events only when they are long there. */
async function lateCollector(): Promise<Late> {
  const shop = new URL(setting('AFFLUENT_SHOP_URL'));
  const server = createServer((request, response) => {
    const isEvents = request.method === 'POST';
    const passed = forward({ host: shop.hostname, port: shop.port, path: request.url, method: request.method, headers: request.headers }, (answer) => {
      if (isEvents) server.emit('events');
      setTimeout(() => answer.pipe(response.writeHead(answer.statusCode ?? 502, answer.headers)), isEvents ? LATE_MS : 0);
    });
    request.pipe(passed);
  });
  const received = once(server, 'events');
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  const end = (): Promise<unknown> => {
    server.close();
    server.closeAllConnections();
    return once(server, 'close');
  };
  return { url: `http://127.0.0.1:${port}`, received, end };
}

test('a visitor who does not want to be followed is not', async ({ page, browser }, info) => {
  const before = await openClicks(page);
  // The browser's own setting, where people find it.
  const profile = info.outputPath('profile');
  mkdirSync(`${profile}/Default`, { recursive: true });
  writeFileSync(`${profile}/Default/Preferences`, JSON.stringify({ enable_do_not_track: true }));
  const doNotTrack = await chromium.launchPersistentContext(profile, info.project.use.launchOptions ?? {});
  expect(await unseenVisit(doNotTrack)).toEqual({ doNotTrack: '1' });
  await doNotTrack.close();

  // Chromium has no setting for this one.
  const privacyControl = await browser.newContext();
  await privacyControl.addInitScript(() => Object.defineProperty(navigator, 'globalPrivacyControl', { value: true }));
  expect(await unseenVisit(privacyControl)).toEqual({ doNotTrack: null });
  await privacyControl.close();

  // What comes after them arrives after them: so would they have.
  const { seen } = await walk(await browser.newPage());
  await showsClicks(page, before + seen.length);
});

/** A short visit; nothing of it is kept or sent. Answers what the browser tells pages. */
async function unseenVisit(context: BrowserContext): Promise<{ doNotTrack: string | null }> {
  const page = await context.newPage();
  const requests: string[] = [];
  page.on('request', (request) => requests.push(new URL(request.url()).pathname));
  await page.goto(SHOP());
  const answer = { doNotTrack: await page.evaluate(() => navigator.doNotTrack) };
  await page.locator('[data-track="carte-cafe"]').click();
  await page.locator('[data-track="ajouter-cafe"]').click();
  await expect(page.locator('#compte')).toHaveText('1');
  const kept = await page.evaluate(() => [...Object.keys(sessionStorage), ...Object.keys(localStorage)]);
  // The basket is the shop's own.
  expect(kept).toEqual(['boutique.panier']);
  await page.goto('about:blank');
  expect(requests).toContain('/tracker.js');
  expect(requests).not.toContain('/collect');
  expect(await context.cookies(), 'cookies').toEqual([]);
  return answer;
}
