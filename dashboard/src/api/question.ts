// How a question is written: the path and parameters of docs/api.md.
//
// Owns: the spelling. Equal questions have equal text, which is how they are told apart.
// Does not own: which questions a page asks (`pages`).
import type { Range } from '../view/period.ts';
import type { Filters } from '../view/state.ts';

export interface Aggregate {
  readonly range: Range;
  readonly measures: readonly string[];
  readonly by?: readonly string[];
  readonly every?: string;
  readonly filters?: Filters;
  readonly order?: string;
  readonly limit?: number;
}

export function aggregate(stream: string, question: Aggregate): string {
  const parameters = new URLSearchParams({
    from: rfc3339(question.range.from),
    to: rfc3339(question.range.to),
    measures: question.measures.join(','),
  });
  if (question.by !== undefined) parameters.set('by', question.by.join(','));
  if (question.every !== undefined) parameters.set('every', question.every);
  addFilters(parameters, question.filters ?? {});
  if (question.order !== undefined) parameters.set('order', question.order);
  if (question.limit !== undefined) parameters.set('limit', String(question.limit));
  return `streams/${encodeURIComponent(stream)}/aggregate?${parameters.toString()}`;
}

export function records(stream: string, filters: Filters, limit: number): string {
  const parameters = new URLSearchParams();
  addFilters(parameters, filters);
  parameters.set('limit', String(limit));
  return `streams/${encodeURIComponent(stream)}/records?${parameters.toString()}`;
}

export function lake(stream: string): string {
  return `streams/${encodeURIComponent(stream)}/lake`;
}

export function deadLetters(stream: string): string {
  return `streams/${encodeURIComponent(stream)}/dead-letters`;
}

/** `field:value`, and `field` alone for records without one. */
function addFilters(parameters: URLSearchParams, filters: Filters): void {
  for (const [field, values = []] of Object.entries(filters)) {
    for (const value of values) parameters.append('filter', value === null ? field : `${field}:${value}`);
  }
}

function rfc3339(time: number): string {
  return new Date(time).toISOString().replace('.000Z', 'Z');
}
