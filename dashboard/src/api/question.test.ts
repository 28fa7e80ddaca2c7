import { expect, it } from 'vitest';
import { aggregate, records } from './question.ts';

const range = { from: Date.parse('2026-01-01T00:00:00Z'), to: Date.parse('2026-02-01T00:00:00Z') };

it('writes a question as the contract has it', () => {
  const question = aggregate('sales', {
    range,
    measures: ['revenue', 'sales'],
    by: ['product'],
    filters: { region: ['Bretagne', 'Corse'], category: [null] },
    order: '-revenue',
    limit: 10,
  });
  const url = new URL(question, 'http://server/');
  expect(url.pathname).toBe('/streams/sales/aggregate');
  expect([...url.searchParams]).toEqual([
    ['from', '2026-01-01T00:00:00Z'],
    ['to', '2026-02-01T00:00:00Z'],
    ['measures', 'revenue,sales'],
    ['by', 'product'],
    ['filter', 'region:Bretagne'],
    ['filter', 'region:Corse'],
    ['filter', 'category'],
    ['order', '-revenue'],
    ['limit', '10'],
  ]);
});

it('hides nothing of a value', () => {
  const url = new URL(records('a/b', { product: ['x:y&z=1'] }, 5), 'http://server/');
  expect(url.pathname).toBe('/streams/a%2Fb/records');
  expect(url.searchParams.getAll('filter')).toEqual(['product:x:y&z=1']);
});
