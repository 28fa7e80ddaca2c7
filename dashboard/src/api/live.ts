// News from the server: that a stream has new records, and whether news can come at all.
//
// Owns: one event source, its reconnection, what is known of the connection.
// Does not own: asking again (`use_question`).
//
// ```text
//  connecting ─▶ live ⇄ unavailable (the server is there, MongoDB cannot be followed)
//       ▲         │
//       └── lost ◀┘   tried again after 1 s, 2 s, … 15 s
// ```
import { API } from './client.ts';

export type Connection = 'connecting' | 'live' | 'unavailable' | 'lost';

export interface News {
  readonly connection: Connection;
  /** Since when there has been a gap, ms; `null` while there is none. */
  readonly gapSince: number | null;
  /** Grows with every notice and every reconnection, per stream; `''` counts those of all. */
  readonly ticks: Readonly<Record<string, number>>;
}

const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 15_000;

export const NO_NEWS: News = { connection: 'connecting', gapSince: null, ticks: {} };

/** Follows the server until the returned function is called. */
export function follow(tell: (news: News) => void): () => void {
  let news = NO_NEWS;
  let source: EventSource | undefined;
  let retry: number | undefined;
  let retryMs = FIRST_RETRY_MS;
  const away = new Set<string>();

  const change = (next: Partial<News>): void => {
    news = { ...news, ...next };
    tell(news);
  };
  const tick = (stream: string): Readonly<Record<string, number>> => ({
    ...news.ticks,
    [stream]: (news.ticks[stream] ?? 0) + 1,
  });
  const connection = (): Pick<News, 'connection' | 'gapSince'> =>
    away.size === 0
      ? { connection: 'live', gapSince: null }
      : { connection: 'unavailable', gapSince: news.gapSince ?? Date.now() };

  const connect = (): void => {
    const opened = new EventSource(`${API}/live`);
    source = opened;
    opened.onopen = () => {
      retryMs = FIRST_RETRY_MS;
      away.clear();
      // What came during the gap was not told: everything is asked anew.
      change({ ...connection(), ticks: tick('') });
    };
    opened.addEventListener('progress', (event: MessageEvent<string>) => {
      const stream = streamOf(event);
      away.delete(stream);
      change({ ...connection(), ticks: tick(stream) });
    });
    opened.addEventListener('unavailable', (event: MessageEvent<string>) => {
      away.add(streamOf(event));
      change(connection());
    });
    opened.onerror = () => {
      // The browser's own retry gives up on an HTTP error; ours does not.
      opened.close();
      change({ connection: 'lost', gapSince: news.gapSince ?? Date.now() });
      retry = window.setTimeout(connect, retryMs);
      retryMs = Math.min(2 * retryMs, LAST_RETRY_MS);
    };
  };
  connect();
  return () => {
    window.clearTimeout(retry);
    source?.close();
  };
}

/** The number that changes when a stream's questions are to be asked again. */
export function tickOf(news: News, stream: string): number {
  return (news.ticks[stream] ?? 0) + (news.ticks[''] ?? 0);
}

function streamOf(event: MessageEvent<string>): string {
  try {
    const data = JSON.parse(event.data) as { stream?: unknown };
    return typeof data.stream === 'string' ? data.stream : '';
  } catch {
    return '';
  }
}
