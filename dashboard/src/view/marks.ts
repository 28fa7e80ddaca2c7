// Which places on a time axis get a mark: those where people look for one, in the zone's own calendar.
//
// Owns: the choice. Does not own: how a mark is written (`i18n/format`).
import { type Wall, wall, weekday } from './zone.ts';

/** From dense to sparse. */
const STEPS: readonly ((shown: Wall) => boolean)[] = [
  ...[5, 15, 30, 60, 120, 180, 360, 720, 1_440].map((minutes) => (shown: Wall) => (shown.hour * 60 + shown.minute) % minutes === 0),
  (shown) => isMidnight(shown) && shown.day % 2 === 1 && shown.day < 31,
  (shown) => isMidnight(shown) && weekday(shown) === 0,
  ...[1, 2, 3, 6, 12].map((months) => (shown: Wall) => isMidnight(shown) && shown.day === 1 && (shown.month - 1) % months === 0),
];

function isMidnight(shown: Wall): boolean {
  return shown.hour === 0 && shown.minute === 0;
}

/** The indices of the marks, at most so many; the first time alone where no step fits. */
export function marks(times: readonly number[], zone: string, most: number): ReadonlySet<number> {
  const walls = times.map((time) => wall(time, zone));
  for (const step of STEPS) {
    const found = walls.flatMap((shown, index) => (step(shown) ? [index] : []));
    if (found.length > 0 && found.length <= most) return new Set(found);
  }
  return new Set([0]);
}
