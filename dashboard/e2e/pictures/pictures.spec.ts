// The pictures in docs/images: each page as it is after a few seconds, with records coming in. scripts/screenshots.sh runs this.
import type { Page } from '@playwright/test';
import { expect, openTable, search, settled, test } from '../page.ts';

const folder = process.env.AFFLUENT_PICTURES ?? 'pictures';
const DAY = 86_400_000;
const today = Math.floor(Date.now() / DAY) * DAY;

test.use({ viewport: { width: 1440, height: 1000 } });

async function take(page: Page, name: string): Promise<void> {
  await settled(page);
  await page.mouse.move(0, 0);
  // Pictures grow into their places.
  await page.waitForTimeout(1_500);
  await page.screenshot({ path: `${folder}/${name}.png` });
}

test('sales', async ({ page }) => {
  await page.goto('./?period=30d');
  await take(page, 'dashboard-sales');
});

test('sales, filtered', async ({ page }) => {
  const period = { from: new Date(today - 21 * DAY).toISOString(), to: new Date(today).toISOString() };
  await page.goto(`./${search({ ...period, region: 'Occitanie', product: 'Cocotte émaillée 24 cm' })}`);
  await take(page, 'dashboard-sales-filtered');
});

test('sales, dark', async ({ page }) => {
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.goto('./?period=7d');
  await take(page, 'dashboard-sales-dark');
});

test('sales in French', async ({ page }) => {
  await page.goto('./?period=30d');
  await page.getByLabel('Language').selectOption('fr');
  await take(page, 'dashboard-sales-french');
});

test('clicks', async ({ page }) => {
  await page.setViewportSize({ width: 1440, height: 1480 });
  await page.goto('./?view=clicks&period=30d');
  await take(page, 'dashboard-clicks');
});

test.describe('a phone', () => {
  test.use({ viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true });

  test('sales', async ({ page }) => {
    await page.setViewportSize({ width: 390, height: 1400 });
    await page.goto('./?period=7d');
    await take(page, 'dashboard-sales-phone');
  });
});

test('the shop', async ({ page }) => {
  await page.setViewportSize({ width: 1440, height: 660 });
  await page.goto(new URL('/shop/', process.env.AFFLUENT_SHOP_URL).href);
  await page.locator('#region').selectOption('Bretagne');
  await page.screenshot({ path: `${folder}/shop.png` });
});

test('pipeline', async ({ page }) => {
  test.setTimeout(240_000);
  await page.goto('./?view=pipeline');
  // Rates are measured while one looks.
  const rates = await openTable(page, 'Throughput · sales');
  await expect(rates.locator('tbody tr')).toHaveCount(24, { timeout: 180_000 });
  await page.getByRole('button', { name: 'Throughput · sales: show as a table' }).click();
  await take(page, 'dashboard-pipeline');
});
