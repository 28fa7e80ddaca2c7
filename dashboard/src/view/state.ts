// What a person looks at, and how it is written into the URL, so that it can be shared and gone back to.
//
// Owns: the view, its spelling, and changing filters by a click. What of a URL is not understood is left out.
// Does not own: the browser's history (`use_view`), language and colours, which are a person's and not a view's.
import { PRESETS, type Period, type Preset } from './period.ts';

export const PAGES = ['sales', 'clicks', 'pipeline'] as const;
export type Page = (typeof PAGES)[number];

export const MEASURES = ['revenue', 'sales'] as const;
export type Measure = (typeof MEASURES)[number];

/** Fields that can be filtered by. */
export const FIELDS = ['region', 'product', 'category', 'page'] as const;
export type Field = (typeof FIELDS)[number];

/** `null`: records without a value. */
export type Value = string | null;

/** Of one field any of the values, of several fields all. */
export type Filters = Readonly<Partial<Record<string, readonly Value[]>>>;

export interface View {
  readonly page: Page;
  /** `null`: the page chooses what has data. */
  readonly period: Period | null;
  readonly measure: Measure;
  readonly filters: Filters;
}

export const START: View = { page: 'sales', period: null, measure: 'revenue', filters: {} };

export function parse(search: string): View {
  const parameters = new URLSearchParams(search);
  const filters: Partial<Record<string, readonly Value[]>> = {};
  for (const field of FIELDS) {
    const given: Value[] = [...new Set(parameters.getAll(field))];
    if (parameters.getAll('without').includes(field)) given.push(null);
    if (given.length > 0) filters[field] = given;
  }
  return {
    page: oneOf(PAGES, parameters.get('view')) ?? START.page,
    period: parsePeriod(parameters),
    measure: oneOf(MEASURES, parameters.get('measure')) ?? START.measure,
    filters,
  };
}

function parsePeriod(parameters: URLSearchParams): Period | null {
  const preset: Preset | undefined = oneOf(PRESETS, parameters.get('period'));
  if (preset !== undefined) return preset;
  const [from, to] = [Date.parse(parameters.get('from') ?? ''), Date.parse(parameters.get('to') ?? '')];
  return from < to ? { from, to } : null;
}

/** `?…`, or nothing for the view that one starts with. */
export function format(view: View): string {
  const parameters = new URLSearchParams();
  if (view.page !== START.page) parameters.set('view', view.page);
  if (typeof view.period === 'string') parameters.set('period', view.period);
  else if (view.period !== null) {
    parameters.set('from', new Date(view.period.from).toISOString());
    parameters.set('to', new Date(view.period.to).toISOString());
  }
  if (view.measure !== START.measure) parameters.set('measure', view.measure);
  for (const field of FIELDS) {
    for (const value of view.filters[field] ?? []) {
      if (value === null) parameters.append('without', field);
      else parameters.append(field, value);
    }
  }
  const text = parameters.toString();
  return text === '' ? '' : `?${text}`;
}

export function isFiltered(filters: Filters, field: string, value: Value): boolean {
  return filters[field]?.includes(value) ?? false;
}

/** Adds the value, or takes it away where it is there. */
export function toggled(filters: Filters, field: string, value: Value): Filters {
  const values = filters[field] ?? [];
  const next = values.includes(value) ? values.filter((other) => other !== value) : [...values, value];
  return next.length > 0 ? { ...filters, [field]: next } : without(filters, field);
}

export function without(filters: Filters, field: string): Filters {
  return Object.fromEntries(Object.entries(filters).filter(([name]) => name !== field));
}

/** Those that a stream with these fields has. */
export function only(filters: Filters, fields: readonly string[]): Filters {
  return Object.fromEntries(Object.entries(filters).filter(([name]) => fields.includes(name)));
}

function oneOf<T extends string>(known: readonly T[], text: string | null): T | undefined {
  return known.find((one) => one === text);
}
