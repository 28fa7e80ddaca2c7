// The figures are those that MongoDB itself sums up from the raw documents, whatever is chosen, to the cent.
import type { APIRequestContext, Page } from '@playwright/test';
import { aggregate, figure, money, search } from '../page.ts';
import { type Question, type Sums, expect, sums, test } from './job.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const FIELDS = ['region', 'product', 'category'] as const;

const whole = new Intl.NumberFormat('en-GB');

async function expectFigures(page: Page, sums: Sums): Promise<void> {
  await expect(figure(page, 'revenue')).toHaveText(money(sums.revenue));
  await expect(figure(page, 'sales')).toHaveText(whole.format(sums.sales));
  await expect(figure(page, 'units')).toHaveText(whole.format(sums.units));
}

/** Whole numbers below a bound: the same ones for the same seed (mulberry32). */
function dice(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/**
 * A period of the last weeks, and values of one, two or three fields. Those of sales that there are, so that not every
 * answer is nothing; a second value of a field is any.
 */
async function randomQuestion(request: APIRequestContext, roll: (below: number) => number): Promise<Question> {
  // The page rounds what is longer than two weeks to midnights.
  const [unit, most] = roll(2) === 0 ? [HOUR, 14 * 24] : [DAY, 24];
  const to = Math.floor(Date.now() / unit) * unit - roll(10) * DAY;
  const range = { from: new Date(to - (1 + roll(most)) * unit).toISOString(), to: new Date(to).toISOString() };
  const { rows } = await aggregate(request, 'sales', { ...range, measures: 'sales', by: FIELDS.join(',') });
  expect(rows.length, `sales between ${range.from} and ${range.to}`).toBeGreaterThan(0);
  const one = (): readonly unknown[] => rows[roll(rows.length)] ?? [];
  const sale = one();
  const isChosen = FIELDS.map(() => roll(3) > 0);
  isChosen[roll(FIELDS.length)] = true;
  const chosen = FIELDS.flatMap((field, index) => {
    if (isChosen[index] !== true) return [];
    const values = roll(3) === 0 ? [sale[index], one()[index]] : [sale[index]];
    return [[field, [...new Set(values.map(String))]] as const];
  });
  return { ...range, filters: Object.fromEntries(chosen) };
}

/** As a person does: typed, picked, typed. */
async function choose(page: Page, { from, to, filters }: Question): Promise<void> {
  await page.getByRole('button', { name: 'Other' }).click();
  await page.getByLabel('From', { exact: true }).fill(from.slice(0, 16));
  await page.getByLabel('To (excluded)').fill(to.slice(0, 16));
  await page.getByRole('button', { name: 'Show', exact: true }).click();
  for (const field of ['region', 'category'] as const) {
    for (const value of filters[field] ?? []) await filterBar(page, field).selectOption(String(value));
  }
  for (const value of filters.product ?? []) {
    await filterBar(page, 'product').focus();
    // The page takes what is typed once it knows it as a product.
    await expect(page.locator(`datalist option[value=${JSON.stringify(value)}]`)).toHaveCount(1);
    await filterBar(page, 'product').fill(String(value));
  }
}

function filterBar(page: Page, field: 'region' | 'product' | 'category') {
  const labels = { region: 'Region', product: 'Product', category: 'Category' };
  return page.getByRole('group', { name: 'Filters' }).getByLabel(labels[field]);
}

test('five random choices of period, region, product and category', async ({ page, request }) => {
  const seed = Number(process.env.AFFLUENT_BROWSER_SEED ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`    AFFLUENT_BROWSER_SEED=${seed}`);
  const roll = dice(seed);
  const questions: Question[] = [];
  for (let n = 0; n < 5; n += 1) questions.push(await randomQuestion(request, roll));
  const answers = await sums(questions);
  for (const [index, question] of questions.entries()) {
    const answer = answers[index];
    if (answer === undefined) throw new Error('MongoDB gave no answer');
    console.log(`    ${JSON.stringify(question)} → ${JSON.stringify(answer)}`);
    await page.goto('./?period=30d');
    await choose(page, question);
    await expectFigures(page, answer);
  }
});

/** What each preset means, in words of its own: the page's stream is in UTC. */
function presets(now: number): Record<string, { from: number; to: number }> {
  const today = Math.floor(now / DAY) * DAY;
  const nextHour = Math.floor(now / HOUR) * HOUR + HOUR;
  const tomorrow = new Date(today + DAY);
  const aYearBefore = Date.UTC(tomorrow.getUTCFullYear() - 1, tomorrow.getUTCMonth(), tomorrow.getUTCDate());
  return {
    Today: { from: today, to: nextHour },
    '24 hours': { from: nextHour - DAY, to: nextHour },
    '7 days': { from: today - 6 * DAY, to: today + DAY },
    '30 days': { from: today - 29 * DAY, to: today + DAY },
    '12 months': { from: aYearBefore, to: today + DAY },
  };
}

test('every preset of the period', async ({ page }) => {
  const chosen = Object.entries(presets(Date.now()));
  const answers = await sums(chosen.map(([, { from, to }]) => ({ from: new Date(from).toISOString(), to: new Date(to).toISOString(), filters: {} })));
  await page.goto('./');
  for (const [index, [name]] of chosen.entries()) {
    const button = page.getByRole('group', { name: 'Period' }).getByRole('button', { name });
    await button.click();
    await expect(button).toHaveAttribute('aria-pressed', 'true');
    const answer = answers[index];
    if (answer === undefined) throw new Error('MongoDB gave no answer');
    expect(answer.sales, `sales of ${name}`).toBeGreaterThan(0);
    await expectFigures(page, answer);
  }
});

test('a URL that was shared', async ({ page }) => {
  const to = new Date(Math.floor(Date.now() / DAY) * DAY - 2 * DAY).toISOString();
  const from = new Date(Date.parse(to) - 9 * DAY).toISOString();
  const [answer] = await sums([{ from, to, filters: { region: ['Bretagne', 'Occitanie'], category: ['Cuisine'] } }]);
  if (answer === undefined) throw new Error('MongoDB gave no answer');
  await page.goto(`./${search({ from, to, category: 'Cuisine' })}&region=Bretagne&region=Occitanie`);
  await expectFigures(page, answer);
});
