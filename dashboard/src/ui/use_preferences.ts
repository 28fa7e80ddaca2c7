// What a person prefers, whatever they look at: language and colours.
//
// Owns: remembering them in this browser, and telling the document. Does not own: dictionaries (`i18n`), colours (`style.css`).
import { useEffect, useState } from 'preact/hooks';
import { LANGUAGES, type Language, preferred } from '../i18n/index.ts';

export const THEMES = ['system', 'light', 'dark'] as const;
export type ThemeChoice = (typeof THEMES)[number];

export interface Preferences {
  readonly language: Language;
  readonly theme: ThemeChoice;
  /** What the choice comes to. */
  readonly isDark: boolean;
  readonly setLanguage: (language: Language) => void;
  readonly setTheme: (theme: ThemeChoice) => void;
}

const dark = window.matchMedia('(prefers-color-scheme: dark)');

export function usePreferences(): Preferences {
  const [language, setLanguage] = useState<Language>(
    () => LANGUAGES.find((known) => known === read('language')) ?? preferred(navigator.languages),
  );
  const [theme, setTheme] = useState<ThemeChoice>(() => THEMES.find((known) => known === read('theme')) ?? 'system');
  const [systemIsDark, setSystemIsDark] = useState(dark.matches);
  useEffect(() => {
    const changed = (): void => setSystemIsDark(dark.matches);
    dark.addEventListener('change', changed);
    return () => dark.removeEventListener('change', changed);
  }, []);
  const isDark = theme === 'system' ? systemIsDark : theme === 'dark';
  // While rendering, not after: the pictures read their colours from the document.
  document.documentElement.dataset.theme = isDark ? 'dark' : 'light';
  document.documentElement.lang = language;
  return {
    language,
    theme,
    isDark,
    setLanguage: (next) => {
      write('language', next);
      setLanguage(next);
    },
    setTheme: (next) => {
      write('theme', next);
      setTheme(next);
    },
  };
}

/** A browser may forbid it; then a choice lasts as long as the page. */
function read(name: string): string | null {
  try {
    return localStorage.getItem(`affluent.${name}`);
  } catch {
    return null;
  }
}

function write(name: string, value: string): void {
  try {
    localStorage.setItem(`affluent.${name}`, value);
  } catch {
    // As above.
  }
}
