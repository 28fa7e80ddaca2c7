// Records per second, from what changed between two looks at the pipeline.
//
// Owns: the difference of two reports, and a bounded memory of them. What is unknown in either stays unknown, and progress that
// went backwards (a topic re-created, a rebuild) is no rate.
import type { Pipeline, StreamReport } from '../api/types.ts';

/** Records per second; `null`: unknown. */
export interface Rates {
  readonly produced: number | null;
  readonly mongo: number | null;
  readonly lake: number | null;
}

export interface Sample {
  /** When the later report was taken, ms. */
  readonly at: number;
  readonly streams: Readonly<Record<string, Rates>>;
}

/** Ten minutes, asked every five seconds. */
export const MOST_SAMPLES = 120;

export function between(before: Pipeline, after: Pipeline): Sample | null {
  const at = Date.parse(after.status.at);
  const seconds = (at - Date.parse(before.status.at)) / 1_000;
  // The server remembers a report for a while: the same one tells nothing new.
  if (!(seconds > 0)) return null;
  const streams: Record<string, Rates> = {};
  for (const stream of after.status.streams) {
    const earlier = before.status.streams.find((other) => other.stream === stream.stream);
    if (earlier === undefined) continue;
    const rate = (position: Position): number | null => perSecond(earlier, stream, position, seconds);
    streams[stream.stream] = {
      produced: rate((partition) => partition.log_end),
      mongo: rate((partition) => partition.mongo?.next ?? null),
      lake: rate((partition) => partition.lake?.next ?? null),
    };
  }
  return { at, streams };
}

type Position = (partition: StreamReport['partitions'][number]) => number | null;

function perSecond(before: StreamReport, after: StreamReport, position: Position, seconds: number): number | null {
  let moved = 0;
  for (const partition of after.partitions) {
    const earlier = before.partitions.find((other) => other.partition === partition.partition);
    const [from, to] = [earlier === undefined ? null : position(earlier), position(partition)];
    if (from === null || to === null || to < from) return null;
    moved += to - from;
  }
  return after.partitions.length > 0 ? moved / seconds : null;
}

export function remember(samples: readonly Sample[], sample: Sample): Sample[] {
  return [...samples, sample].slice(-MOST_SAMPLES);
}
