// The sales page says what the API says, and everything on it follows the filters, which live in the URL.
import { aggregate, card, expect, figure, money, newestPeriod, openTable, search, test } from './page.ts';

test('shows the figures of the API', async ({ page, request }) => {
  const period = await newestPeriod(request, 'sales', 'sales');
  const total = await aggregate(request, 'sales', { ...period, measures: 'revenue,sales,units' });
  const [revenue, sales, units] = total.rows[0] ?? [];
  await page.goto(`./${search(period)}`);
  await expect(figure(page, 'revenue')).toHaveText(money(String(revenue)));
  await expect(figure(page, 'sales')).toHaveText(new Intl.NumberFormat('en-GB').format(Number(sales)));
  await expect(figure(page, 'units')).toHaveText(new Intl.NumberFormat('en-GB').format(Number(units)));
});

test('lists behind each picture what the API answers', async ({ page, request }) => {
  const period = await newestPeriod(request, 'sales', 'sales');
  const top = await aggregate(request, 'sales', { ...period, measures: 'revenue', by: 'product', order: '-revenue', limit: '10' });
  await page.goto(`./${search(period)}`);
  const rows = (await openTable(page, 'Top products')).locator('tbody tr');
  await expect(rows).toHaveCount(top.rows.length);
  for (const [index, [product, revenue]] of top.rows.entries()) {
    await expect(rows.nth(index).locator('td')).toContainText([String(product), money(String(revenue))]);
  }
});

test('filters everything by a choice, and takes it back by the same', async ({ page, request }) => {
  const period = await newestPeriod(request, 'sales', 'sales');
  await page.goto(`./${search(period)}`);
  const whole = money(String((await aggregate(request, 'sales', { ...period, measures: 'revenue' })).rows[0]?.[0]));
  await expect(figure(page, 'revenue')).toHaveText(whole);

  const choice = (await openTable(page, 'Regions')).locator('tbody button').first();
  const region = (await choice.textContent()) ?? '';
  await choice.click();
  const part = await aggregate(request, 'sales', { ...period, measures: 'revenue', filter: `region:${region}` });
  await expect(figure(page, 'revenue')).toHaveText(money(String(part.rows[0]?.[0])));
  await expect(page).toHaveURL((url) => url.searchParams.get('region') === region);
  await expect(choice).toHaveAttribute('aria-pressed', 'true');

  await choice.click();
  await expect(figure(page, 'revenue')).toHaveText(whole);
  await page.goBack();
  await expect(figure(page, 'revenue')).toHaveText(money(String(part.rows[0]?.[0])));
});

test('filters by a click on a bar', async ({ page, request }) => {
  const period = await newestPeriod(request, 'sales', 'sales');
  const top = await aggregate(request, 'sales', { ...period, measures: 'revenue', by: 'product', order: '-revenue', limit: '1' });
  const [product, revenue] = top.rows[0] ?? [];
  await page.goto(`./${search(period)}`);
  const canvas = card(page, 'Top products').locator('canvas');
  await expect(canvas).toBeVisible();
  const box = await canvas.boundingBox();
  // The first of ten bars, in its left half.
  await expect(async () => {
    await canvas.click({ position: { x: (box?.width ?? 0) * 0.45, y: (box?.height ?? 0) * 0.05 } });
    await expect(page).toHaveURL((url) => url.searchParams.get('product') === product, { timeout: 2_000 });
  }).toPass();
  await expect(figure(page, 'revenue')).toHaveText(money(String(revenue)));
});

test('shows the same to whoever gets the URL', async ({ page, request, browser }) => {
  const period = await newestPeriod(request, 'sales', 'sales');
  await page.goto(`./${search({ ...period, region: 'Bretagne', measure: 'sales' })}`);
  await expect(page.getByRole('button', { name: 'Remove the filter Region: Bretagne' })).toBeVisible();
  await expect(figure(page, 'revenue')).not.toHaveText('');
  const shown = await figure(page, 'revenue').textContent();
  const other = await browser.newPage();
  await other.goto(page.url());
  await expect(other.locator('[data-figure="revenue"]')).toHaveText(shown ?? '');
  await expect(other.getByRole('button', { name: 'Sales', exact: true })).toHaveAttribute('aria-pressed', 'true');
  await other.close();
});

test('narrows the period by a drag over the picture', async ({ page, request }) => {
  const period = await newestPeriod(request, 'sales', 'sales');
  await page.goto(`./${search(period)}`);
  const canvas = card(page, 'Revenue over time').locator('canvas');
  await expect(canvas).toBeVisible();
  const box = await canvas.boundingBox();
  if (box === null) throw new Error('the picture has no place');
  await page.mouse.move(box.x + box.width * 0.5, box.y + box.height * 0.5);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.7, box.y + box.height * 0.5, { steps: 4 });
  await page.mouse.up();
  await expect(page).toHaveURL((url) => (url.searchParams.get('from') ?? '') > period.from && (url.searchParams.get('to') ?? '9') < period.to);
});

test('says where data are when the period has none', async ({ page }) => {
  await page.goto('./?from=1999-01-01T00:00:00Z&to=1999-01-31T00:00:00Z');
  await expect(page.getByRole('heading', { name: 'No records in this period' })).toBeVisible();
  await page.getByRole('button', { name: 'Show the newest 30 days' }).click();
  await expect(page.getByRole('heading', { name: 'No records in this period' })).toBeHidden();
  await expect(figure(page, 'revenue')).not.toHaveText(money('0'));
});

test('saves data and picture', async ({ page, request }) => {
  const period = await newestPeriod(request, 'sales', 'sales');
  const regions = await aggregate(request, 'sales', { ...period, measures: 'revenue,sales', by: 'region', order: '-revenue' });
  await page.goto(`./${search(period)}`);
  const csv = page.waitForEvent('download');
  await card(page, 'Regions').getByRole('button', { name: 'Regions: save the data as CSV' }).click();
  const file = await (await csv).createReadStream();
  let text = '';
  for await (const chunk of file) text += String(chunk);
  expect(text.trim().split('\r\n').slice(1)).toEqual(regions.rows.map((row) => row.join(',')));
  const png = page.waitForEvent('download');
  await card(page, 'Regions').getByRole('button', { name: 'Regions: save the picture as PNG' }).click();
  expect((await png).suggestedFilename()).toBe('sales-regions.png');
});
