// What every part of a page with records is given.
import type { Stream } from '../api/types.ts';
import type { Format } from '../i18n/format.ts';
import type { Range } from '../view/period.ts';
import type { Filters } from '../view/state.ts';

export interface Part {
  readonly stream: Stream;
  readonly range: Range;
  /** Those that the stream has fields for. */
  readonly filters: Filters;
  readonly tick: number;
  readonly format: Format;
  readonly now: number;
}
