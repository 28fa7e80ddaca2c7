// A question that is kept answered: asked when it changes, and again whenever there is news.
//
// Owns: how often (once a second at most, seldomer where answers take long), superseded requests (aborted), failed ones
// (tried again), and keeping the old answer until there is a new one, together with what it is an answer to.
// Does not own: the request (`api/client`), how an answer that is missing is shown (`card`).
import { useEffect, useRef, useState } from 'preact/hooks';
import { ApiError, ask } from '../api/client.ts';

const AT_MOST_EVERY_MS = 1_000;
/** An answer that takes long is asked for seldomer: a page must not use a server up. */
const SHARE_OF_TIME = 4;
const RETRY_MS = 3_000;

export interface Answer<T, M> {
  readonly data: T | null;
  /** What `data` is the answer to: never to be drawn with what is asked now. */
  readonly about: M | null;
  readonly error: ApiError | null;
  /** What is asked now has neither been answered nor refused yet. */
  readonly isWaiting: boolean;
}

/** `question` null: nothing is asked. `about` travels with the answer. `tick`: changes when there is news. */
export function useQuestion<T, M>(question: string | null, about: M, tick: number): Answer<T, M> {
  const [state, setState] = useState<State<T, M>>(NOTHING);
  const again = useRef<() => void>(() => undefined);
  const latest = useRef(about);
  latest.current = about;

  useEffect(() => {
    if (question === null) return;
    const asker = new Asker<T>(question, {
      answered: (data) => setState({ data, about: latest.current, answered: question, error: null, failed: null }),
      failed: (error) => setState((before) => ({ ...before, error, failed: question })),
    });
    again.current = () => asker.again();
    return () => asker.stop();
  }, [question]);

  useEffect(() => again.current(), [tick]);

  return {
    data: question === null ? null : state.data,
    about: state.about,
    error: state.failed === question ? state.error : null,
    isWaiting: state.answered !== question && state.failed !== question,
  };
}

interface State<T, M> {
  readonly data: T | null;
  readonly about: M | null;
  readonly answered: string | null;
  readonly error: ApiError | null;
  readonly failed: string | null;
}

const NOTHING = { data: null, about: null, answered: null, error: null, failed: null };

interface Told<T> {
  answered(data: T): void;
  failed(error: ApiError): void;
}

/** Asks one question, from its construction until `stop`. */
class Asker<T> {
  private readonly abort = new AbortController();
  private timer: number | undefined;
  private isAsking = false;
  private isWanted = false;
  private notBefore = 0;
  /** The question itself was refused: news do not change that. */
  private isRefused = false;

  constructor(
    private readonly question: string,
    private readonly told: Told<T>,
  ) {
    document.addEventListener('visibilitychange', this.seen);
    void this.ask();
  }

  stop(): void {
    window.clearTimeout(this.timer);
    document.removeEventListener('visibilitychange', this.seen);
    this.abort.abort();
  }

  /** As soon as it may be. Nobody looks at a hidden page: it is asked when it is seen again. */
  again(): void {
    if (this.isRefused) return;
    this.isWanted = true;
    if (!this.isAsking && !document.hidden) this.askIn(this.notBefore - performance.now());
  }

  private readonly seen = (): void => {
    if (!document.hidden && this.isWanted) this.again();
  };

  private askIn(milliseconds: number): void {
    window.clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.ask(), Math.max(0, milliseconds));
  }

  /** News may have come while an answer was awaited. */
  private wanted(): boolean {
    return this.isWanted;
  }

  private async ask(): Promise<void> {
    const began = performance.now();
    this.isAsking = true;
    this.isWanted = false;
    let isFailed = false;
    try {
      this.told.answered(await ask<T>(this.question, this.abort.signal));
    } catch (error) {
      if (this.abort.signal.aborted) return;
      const known = error instanceof ApiError ? error : new ApiError('network', String(error));
      this.isRefused = known.isFinal;
      isFailed = !known.isFinal;
      this.told.failed(known);
    }
    this.isAsking = false;
    const took = performance.now() - began;
    this.notBefore = began + Math.max(AT_MOST_EVERY_MS, SHARE_OF_TIME * took);
    if (this.wanted()) this.again();
    else if (isFailed) this.askIn(Math.max(RETRY_MS, this.notBefore - performance.now()));
  }
}
