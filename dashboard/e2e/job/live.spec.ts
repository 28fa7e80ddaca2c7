// What is sold now is on the page now, and also where the server was away in between.
import { randomUUID } from 'node:crypto';
import type { Locator, Page } from '@playwright/test';
import { figure, money, openTable } from '../page.ts';
import { SALE, asksNoMore, expect, freePort, mark, test } from './job.ts';

/** The promise is two seconds; this bound is for machines that are busy with other things. */
const MOST_MS = 10_000;

/** Whole cents of a decimal with two places. */
function cents(decimal: string): bigint {
  return BigInt(decimal.replace('.', ''));
}

function plus(...decimals: readonly string[]): string {
  const sum = decimals.map(cents).reduce((a, b) => a + b).toString().padStart(3, '0');
  return `${sum.slice(0, -2)}.${sum.slice(-2)}`;
}

/** When, on this machine's clock, the element first had one of these texts. To be begun before what is awaited. */
async function firstSeen(element: Locator, texts: readonly string[]): Promise<number> {
  return element.evaluate(
    (node, { texts, most }) =>
      new Promise<number>((resolve, reject) => {
        const look = (): void => {
          if (texts.includes(node.textContent)) done(() => resolve(Date.now()));
        };
        const observer = new MutationObserver(look);
        const timer = setTimeout(() => done(() => reject(new Error(`still ${node.textContent}, not ${texts.join(' or ')}`))), most);
        const done = (end: () => void): void => {
          observer.disconnect();
          clearTimeout(timer);
          end();
        };
        observer.observe(node, { characterData: true, childList: true, subtree: true });
        look();
      }),
    { texts, most: MOST_MS },
  );
}

/** Of an amount as the page writes it in English. */
function euros(text: string): string {
  return text.replace(/[€,]/g, '');
}

const whole = new Intl.NumberFormat('en-GB');

/** The number of sales that the page shows. */
async function shownSales(page: Page): Promise<number> {
  await expect(figure(page, 'sales')).toHaveText(/\d/);
  return Number((await figure(page, 'sales').innerText()).replaceAll(',', ''));
}

test('a sale changes the figures and the picture without a reload', async ({ page, sell }) => {
  await page.goto('./?period=24h');
  const isTheSame = await mark(page);
  await expect(page.getByRole('status').filter({ hasText: 'Live' })).toBeVisible();
  const revenue = figure(page, 'revenue');
  // What the picture of revenue over time is drawn from, the newest first.
  const newest = (await openTable(page, 'Revenue over time')).locator('tbody tr').first().locator('td').last();
  await asksNoMore(page);
  const sales = await shownSales(page);
  const before = { revenue: euros(await revenue.innerText()), newest: euros(await newest.innerText()) };

  const seen = Promise.all([
    firstSeen(revenue, [money(plus(before.revenue, SALE.amount))]),
    firstSeen(figure(page, 'sales'), [whole.format(sales + 1)]),
    // A bucket of five minutes may just have ended: then it is the first sale of the next one.
    firstSeen(newest, [money(plus(before.newest, SALE.amount)), money(SALE.amount)]),
  ]);
  const acknowledged = await sell(SALE);
  const [revenueMs, salesMs, pictureMs] = (await seen).map((at) => at - acknowledged);
  console.log(`    from Kafka's acknowledgement to the page: revenue ${revenueMs} ms, sales ${salesMs} ms, picture ${pictureMs} ms`);
  await isTheSame();
});

test('finds its way back after the server was stopped and started again', async ({ page, sell, start, errors }) => {
  test.setTimeout(120_000);
  // A job of its own on the same topics, so that the others' goes on.
  const name = `restart_${randomUUID().slice(0, 8)}`;
  const listen = `127.0.0.1:${await freePort()}`;
  const settings = {
    AFFLUENT__JOB: name,
    AFFLUENT__KAFKA__GROUP: name,
    AFFLUENT__MONGO__DATABASE: name,
    AFFLUENT__LAKE__ENABLED: 'false',
    AFFLUENT__HTTP__LISTEN: listen,
  };
  const url = `http://${listen}`;
  const server = await start('run', settings, `${url}/readyz`);
  await caughtUp(page, url);
  await page.goto(`${url}/?period=24h`);
  const isTheSame = await mark(page);
  const before = await shownSales(page);
  const shows = (more: number) => expect(figure(page, 'sales')).toHaveText(whole.format(before + more), { timeout: 40_000 });

  expect(await server.stop(), 'the exit code after SIGTERM').toBe(0);
  await expect(page.getByRole('status').filter({ hasText: 'Connection lost' })).toBeVisible();
  await sell(SALE);
  await start('run', settings, `${url}/readyz`);
  await shows(1);
  await expect(page.getByRole('status').filter({ hasText: 'Live' })).toBeVisible();
  await asksNoMore(page);
  await sell(SALE);
  await shows(2);
  await isTheSame();
  // The browser itself writes down that nobody answered.
  expect(errors.filter((error) => !error.includes('net::ERR_'))).toEqual([]);
  errors.length = 0;
});

async function caughtUp(page: Page, url: string): Promise<void> {
  await expect(async () => {
    const response = await page.request.get(`${url}/api/v1/pipeline`);
    const { status } = (await response.json()) as { status: { lag_records: number | null } };
    expect(status.lag_records).toBe(0);
  }).toPass({ timeout: 60_000, intervals: [500] });
}
