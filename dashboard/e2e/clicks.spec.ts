// The clicks and pipeline pages say what the API says.
import { aggregate, expect, figure, newestPeriod, openTable, search, test } from './page.ts';

test('counts clicks and pages as the API does', async ({ page, request }) => {
  const period = await newestPeriod(request, 'clicks', 'clicks');
  const total = await aggregate(request, 'clicks', { ...period, measures: 'clicks' });
  const top = await aggregate(request, 'clicks', { ...period, measures: 'clicks', by: 'page', order: '-clicks', limit: '15' });
  await page.goto(`./${search({ view: 'clicks', ...period })}`);
  await expect(figure(page, 'clicks')).toHaveText(new Intl.NumberFormat('en-GB').format(Number(total.rows[0]?.[0])));
  const rows = (await openTable(page, 'Clicks per page')).locator('tbody tr');
  await expect(rows).toHaveCount(top.rows.length);
  await expect(rows.first()).toContainText(String(top.rows[0]?.[0]));
});

test('filters by a page', async ({ page, request }) => {
  const period = await newestPeriod(request, 'clicks', 'clicks');
  await page.goto(`./${search({ view: 'clicks', ...period, page: '/' })}`);
  const part = await aggregate(request, 'clicks', { ...period, measures: 'clicks', filter: 'page:/' });
  await expect(figure(page, 'clicks')).toHaveText(new Intl.NumberFormat('en-GB').format(Number(part.rows[0]?.[0])));
});

test('says in words what is not kept ready, and offers the way out', async ({ page, request }) => {
  const period = await newestPeriod(request, 'clicks', 'clicks');
  await page.goto(`./${search({ view: 'clicks', ...period, region: 'Corse' })}`);
  await expect(page.getByText('This combination is not kept ready').first()).toBeVisible();
  await page.getByRole('button', { name: 'Without the filter region' }).first().click();
  await expect(page.getByText('This combination is not kept ready')).toHaveCount(0);
});

test('shows every partition of every stream', async ({ page, request }) => {
  const response = await request.get('api/v1/pipeline');
  const { status } = (await response.json()) as { status: { streams: { stream: string; partitions: unknown[] }[] } };
  await page.goto('./?view=pipeline');
  for (const { stream, partitions } of status.streams) {
    const table = page.getByRole('region', { name: `Partitions: ${stream}` });
    await expect(table.locator('tbody tr')).toHaveCount(partitions.length);
  }
});
