// What the server answers, as docs/api.md has it.
//
// Owns: the shapes. Does not own: asking (`client`), how questions are written (`question`).

export type Cell = string | number | boolean | null;

export interface Column {
  readonly name: string;
  readonly type: string;
  /** An estimate, as the number of distinct values is. */
  readonly approximate?: boolean;
}

/** Rows under named columns; decimals are strings. */
export interface Table {
  readonly stream: string;
  readonly source: string;
  readonly columns: readonly Column[];
  readonly rows: readonly (readonly Cell[])[];
  readonly complete: boolean;
}

export interface Rollup {
  readonly name: string;
  readonly every: string;
  readonly dimensions: readonly string[];
  readonly measures: readonly Column[];
}

export interface Stream {
  readonly name: string;
  readonly topic: string;
  readonly event_time: string;
  readonly timezone: string;
  readonly mongo: boolean;
  readonly lake: boolean;
  readonly fields: readonly { readonly name: string; readonly type: string; readonly required: boolean }[];
  readonly rollups: readonly Rollup[];
}

export interface Streams {
  readonly job: string;
  readonly streams: readonly Stream[];
}

/** The stream's table in the lake. */
export interface Lake {
  /** `null`: there is none yet. */
  readonly version: number | null;
  readonly files: number;
  readonly bytes: number;
  readonly versions: readonly {
    readonly version: number;
    /** Milliseconds since 1970. */
    readonly timestamp: number | null;
    readonly operation: string;
    readonly engine: string;
    readonly added: number;
    readonly removed: number;
    readonly rows: number | null;
  }[];
}

export interface Letter {
  readonly partition: number;
  readonly offset: number;
  readonly timestamp: string | null;
  readonly state: 'open' | 'failed_again' | 'replayed';
  readonly code: string;
  readonly error: string;
}

/** Records that could not be stored. */
export interface DeadLetters {
  readonly dead_letter_topic: string;
  readonly records: number;
  readonly by_code: Readonly<Record<string, number>>;
  readonly examples: Readonly<Record<string, Letter>>;
  readonly replayed: number;
  readonly complete: boolean;
}

/** `null` everywhere below: unknown, which is never the same as zero. */
export interface SinkReport {
  readonly next: number | null;
  readonly lag_records: number | null;
  readonly lag_seconds: number | null;
  readonly event_time: string | null;
}

export interface PartitionReport {
  readonly partition: number;
  readonly log_start: number | null;
  readonly log_end: number | null;
  readonly mongo: SinkReport | null;
  readonly lake: SinkReport | null;
  readonly lag_records: number | null;
  readonly lag_seconds: number | null;
}

export interface StreamReport {
  readonly stream: string;
  readonly topic: string;
  readonly lake_version: number | null;
  readonly lag_records: number | null;
  readonly lag_seconds: number | null;
  readonly watermark: string | null;
  readonly mongo_watermark: string | null;
  readonly lake_watermark: string | null;
  readonly partitions: readonly PartitionReport[];
  readonly losses: readonly { readonly accepted_at: string; readonly id: string; readonly loss: string }[];
  readonly notices: readonly string[];
  readonly problems: readonly string[];
}

export type PartState = 'starting' | 'ok' | 'slow' | 'held' | 'stopped';

export interface PartReport {
  readonly stream: string;
  readonly part: string;
  readonly state: PartState;
  readonly since?: string;
  readonly seconds?: number;
  readonly why?: string;
}

export interface Pipeline {
  readonly status: {
    readonly job: string;
    readonly at: string;
    readonly complete: boolean;
    readonly lag_records: number | null;
    readonly lag_seconds: number | null;
    readonly streams: readonly StreamReport[];
  };
  readonly parts: readonly PartReport[];
}
