// What the tests share: the server's own answers to compare with, and a page whose errors fail the test.
//
// The tests need a running affluent with records in both sample streams; they take what period those lie in from it.
import { type APIRequestContext, type Page, test as base, expect } from '@playwright/test';

export { expect };

type Cell = string | number | null;

export interface Table {
  readonly columns: readonly { readonly name: string }[];
  readonly rows: readonly (readonly Cell[])[];
}

const DAY = 86_400_000;

export const test = base.extend<{ errors: string[] }>({
  // Every test: nothing may reach the console as an error.
  errors: [
    async ({ page }, use) => {
      const errors: string[] = [];
      page.on('pageerror', (error) => errors.push(error.message));
      page.on('console', (message) => {
        // A refused question is an answer, which the page puts into words; the browser writes it down all the same.
        const isRefusal = message.text().includes('status of 422');
        if (message.type() === 'error' && !isRefusal) errors.push(message.text());
      });
      await use(errors);
      expect(errors, 'errors in the console').toEqual([]);
    },
    { auto: true },
  ],
});

export async function aggregate(request: APIRequestContext, stream: string, parameters: Record<string, string>): Promise<Table> {
  const response = await request.get(`api/v1/streams/${stream}/aggregate?${new URLSearchParams(parameters).toString()}`);
  expect(response.status(), await response.text()).toBe(200);
  return (await response.json()) as Table;
}

/** The thirty days that end with the newest record of the past, so that nothing in them changes while a test runs. */
export async function newestPeriod(request: APIRequestContext, stream: string, measure: string): Promise<{ from: string; to: string }> {
  const today = Math.floor(Date.now() / DAY) * DAY;
  const found = await aggregate(request, stream, {
    from: '1970-01-02T00:00:00Z',
    to: new Date(today).toISOString(),
    measures: measure,
    every: '1d',
    order: '-t',
    limit: '1',
  });
  const newest = found.rows[0]?.[0];
  expect(newest, `the stream ${stream} has records of days before today`).toBeTruthy();
  const day = Date.parse(String(newest));
  return { from: new Date(day - 29 * DAY).toISOString(), to: new Date(day + DAY).toISOString() };
}

export function search(parameters: Record<string, string>): string {
  return `?${new URLSearchParams(parameters).toString()}`;
}

export function figure(page: Page, name: string) {
  return page.locator(`[data-figure="${name}"]`);
}

export function card(page: Page, title: string) {
  return page.locator('section.card', { has: page.getByRole('heading', { name: title, exact: true }) });
}

export function money(amount: string, locale = 'en-GB'): string {
  return new Intl.NumberFormat(locale, { style: 'currency', currency: 'EUR' }).format(amount as unknown as number);
}

/** Opens the table behind a card's picture. */
export async function openTable(page: Page, title: string) {
  await card(page, title).getByRole('button', { name: `${title}: show as a table` }).click();
  return card(page, title).getByRole('table');
}

/** All that is asked has been answered, and drawn. */
export async function settled(page: Page): Promise<void> {
  await expect(page.locator('main .figure').first()).toBeVisible();
  await expect(page.locator('.waiting, .waiting-text')).toHaveCount(0);
}
