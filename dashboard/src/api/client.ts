// Asking the server.
//
// Owns: the request, and what an answer that is none means. Does not own: when to ask again (`use_question`).

/** Below the page, so that a proxy may put both below a path. */
export const API = 'api/v1';

/** Why there is no answer: the server's code, or `network` where there was no server. */
export class ApiError extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }

  /** The question itself is at fault; the same one will fail again. */
  get isFinal(): boolean {
    return this.code !== 'network' && this.code !== 'unavailable' && this.code !== 'too_slow';
  }
}

/** Throws `ApiError`, or the signal's reason where it was aborted. */
export async function ask<T>(question: string, signal: AbortSignal): Promise<T> {
  let response: Response;
  let body: unknown;
  try {
    response = await fetch(`${API}/${question}`, { signal, headers: { accept: 'application/json' } });
    body = await response.json();
  } catch (error) {
    signal.throwIfAborted();
    throw new ApiError('network', error instanceof Error ? error.message : String(error));
  }
  if (!response.ok) throw refusal(response.status, body);
  return body as T;
}

function refusal(status: number, body: unknown): ApiError {
  const error = (body as { error?: { code?: unknown; message?: unknown } } | null)?.error;
  if (typeof error?.code === 'string' && typeof error.message === 'string') {
    return new ApiError(error.code, error.message);
  }
  return new ApiError(status >= 500 ? 'unavailable' : 'refused', `HTTP ${status}`);
}
