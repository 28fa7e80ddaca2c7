// What every part of the page may need: the view, words, news, the time.
//
// Owns: the context and its type. `app` fills it.
import { createContext } from 'preact';
import { useContext } from 'preact/hooks';
import type { News } from '../api/live.ts';
import type { Theme } from '../charts/theme.ts';
import type { Texts } from '../i18n/index.ts';
import type { View } from '../view/state.ts';
import type { Go } from './use_view.ts';

export interface Shared {
  readonly view: View;
  readonly go: Go;
  readonly texts: Texts;
  /** For numbers and dates. */
  readonly locale: string;
  readonly theme: Theme;
  readonly news: News;
  /** Moves on every few seconds. */
  readonly now: number;
}

const Context = createContext<Shared | null>(null);

export const Provider = Context.Provider;

export function useShared(): Shared {
  const shared = useContext(Context);
  if (shared === null) throw new Error('a part of the page stands outside of it');
  return shared;
}
