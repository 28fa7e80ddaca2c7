// Which stream a page shows: the first that keeps the measures it needs, whatever its name; and what else it keeps.
import type { Stream } from '../api/types.ts';

export function streamWith(streams: readonly Stream[], measures: readonly string[]): Stream | null {
  const has = (stream: Stream, measure: string): boolean =>
    stream.rollups.some((rollup) => rollup.measures.some(({ name }) => name === measure));
  return streams.find((stream) => measures.every((measure) => has(stream, measure))) ?? null;
}

/** Whether a rollup keeps this measure by these dimensions. */
export function keeps(stream: Stream, measure: string, dimensions: readonly string[]): boolean {
  return stream.rollups.some(
    (rollup) => rollup.measures.some(({ name }) => name === measure) && dimensions.every((name) => rollup.dimensions.includes(name)),
  );
}
