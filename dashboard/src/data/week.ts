// Hours put together by their place in the week.
//
// Owns: the average per weekday and hour of a zone. Counts are whole numbers, so adding them here is exact.
import { HOUR, wall, weekday } from '../view/zone.ts';
import type { Range } from '../view/period.ts';

export interface Slot {
  /** 0 = Monday. */
  readonly weekday: number;
  readonly hour: number;
  /** How often the period has this hour. */
  readonly hours: number;
  readonly sum: number;
}

/** Every hour of the range up to `now`, also the ones without records: they count as zero. */
export function week(counts: ReadonlyMap<number, number>, range: Range, now: number, zone: string): Slot[] {
  const slots = new Map<number, { hours: number; sum: number }>();
  // An hour that has only begun would look like a quiet one.
  for (let start = range.from; start < range.to && start + HOUR <= now; start += HOUR) {
    const shown = wall(start, zone);
    const place = weekday(shown) * 24 + shown.hour;
    const slot = slots.get(place) ?? { hours: 0, sum: 0 };
    slot.hours += 1;
    slot.sum += counts.get(start) ?? 0;
    slots.set(place, slot);
  }
  return [...slots]
    .sort(([a], [b]) => a - b)
    .map(([place, slot]) => ({ weekday: Math.floor(place / 24), hour: place % 24, ...slot }));
}
