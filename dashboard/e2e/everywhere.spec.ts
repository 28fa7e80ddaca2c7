// What holds of every page: it loads cleanly, in both languages, both modes and all widths, and is usable without a mouse.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Page } from '@playwright/test';
import { aggregate, expect, figure, money, newestPeriod, search, settled, test } from './page.ts';

const VIEWS = ['sales', 'clicks', 'pipeline'];
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

interface Violation {
  readonly id: string;
  readonly impact: string | null;
  readonly nodes: readonly { readonly html: string }[];
}

async function seriousFindings(page: Page): Promise<string[]> {
  await page.evaluate(axe);
  const violations = await page.evaluate(async () => {
    const { axe } = window as unknown as { axe: { run: () => Promise<{ violations: unknown[] }> } };
    return (await axe.run()).violations;
  });
  return (violations as Violation[])
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
}

for (const view of VIEWS) {
  test(`${view} has no serious finding of axe, light and dark`, async ({ page, request }) => {
    const period = await newestPeriod(request, 'sales', 'sales');
    await page.emulateMedia({ reducedMotion: 'reduce' });
    await page.goto(`./${search({ view, ...period })}`);
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme });
      await expect(page.locator('html')).toHaveAttribute('data-theme', colorScheme);
      await settled(page);
      expect(await seriousFindings(page)).toEqual([]);
    }
  });

  test(`${view} fits a phone, a tablet and a wall`, async ({ page, request }) => {
    const period = await newestPeriod(request, 'sales', 'sales');
    await page.setViewportSize({ width: 360, height: 900 });
    await page.goto(`./${search({ view, ...period })}`);
    for (const width of [360, 768, 2560]) {
      await page.setViewportSize({ width, height: 900 });
      await settled(page);
      // Pictures follow the window's size a moment later.
      await expect.poll(() => page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)).toBeLessThanOrEqual(0);
    }
  });
}

test('goes from page to page by keyboard', async ({ page }) => {
  await page.goto('./');
  await page.keyboard.press('Tab');
  await expect(page.getByRole('link', { name: 'Skip to content' })).toBeFocused();
  await page.getByRole('link', { name: 'Pipeline' }).focus();
  await page.keyboard.press('Enter');
  await expect(page).toHaveURL(/view=pipeline/);
  await expect(page.getByRole('link', { name: 'Pipeline' })).toHaveAttribute('aria-current', 'page');
  await page.goBack();
  await expect(page.getByRole('link', { name: 'Sales' })).toHaveAttribute('aria-current', 'page');
});

test('speaks French', async ({ page, request }) => {
  const period = await newestPeriod(request, 'sales', 'sales');
  const total = await aggregate(request, 'sales', { ...period, measures: 'revenue' });
  await page.goto(`./${search(period)}`);
  await page.getByLabel('Language').selectOption('fr');
  await expect(page.getByRole('link', { name: 'Ventes' })).toBeVisible();
  await expect(page.locator('html')).toHaveAttribute('lang', 'fr');
  await expect(figure(page, 'revenue')).toHaveText(money(String(total.rows[0]?.[0]), 'fr-FR'));
  await page.reload();
  await expect(page.getByRole('link', { name: 'Ventes' })).toBeVisible();
});

test.describe('a reader of French', () => {
  test.use({ locale: 'fr-FR' });

  test('is greeted in French', async ({ page }) => {
    await page.goto('./');
    await expect(page.getByRole('link', { name: 'Clics' })).toBeVisible();
  });
});

test('remembers the dark mode', async ({ page }) => {
  await page.goto('./');
  await page.getByLabel('Colours').selectOption('dark');
  await expect(page.locator('html')).toHaveAttribute('data-theme', 'dark');
  await page.reload();
  await expect(page.locator('html')).toHaveAttribute('data-theme', 'dark');
});

test('is told news, and says when it is not', async ({ page, errors }) => {
  await page.goto('./');
  await expect(page.getByRole('status').filter({ hasText: 'Live' })).toBeVisible();
  await page.route('**/api/v1/**', (route) => route.abort());
  await page.reload();
  await expect(page.getByRole('status').filter({ hasText: 'Connection lost' })).toBeVisible();
  await page.unroute('**/api/v1/**');
  await expect(page.getByRole('status').filter({ hasText: 'Live' })).toBeVisible({ timeout: 30_000 });
  // The browser itself writes the refused requests to the console.
  errors.length = 0;
});
