// The view in the browser's address and history.
//
// Owns: reading it at the start and on back and forward, writing it on each change. Does not own: its spelling (`view/state`).
import { useCallback, useEffect, useState } from 'preact/hooks';
import { type View, format, parse } from '../view/state.ts';

/** Shows another view; a step of history, unless it says the same in other words. */
export type Go = (change: Partial<View>) => void;

export function useView(): readonly [View, Go] {
  const [view, setView] = useState(() => parse(location.search));
  useEffect(() => {
    const moved = (): void => setView(parse(location.search));
    window.addEventListener('popstate', moved);
    return () => window.removeEventListener('popstate', moved);
  }, []);
  const go = useCallback<Go>((change) => {
    // From the address, not from a render that may be older.
    const next = { ...parse(location.search), ...change };
    if (format(next) !== location.search) history.pushState(null, '', location.pathname + format(next));
    setView(next);
  }, []);
  return [view, go];
}
