// The page's frame: navigation, connection, preferences, and the page that the URL names.
//
// Owns: what all pages share. Does not own: the pages (`pages`).
import { useEffect, useMemo, useState } from 'preact/hooks';
import { NO_NEWS, follow } from './api/live.ts';
import type { Streams } from './api/types.ts';
import { readTheme } from './charts/theme.ts';
import { createFormat } from './i18n/format.ts';
import { LANGUAGES, type Texts, localeOf, texts as dictionaries } from './i18n/index.ts';
import { ClicksPage } from './pages/clicks.tsx';
import { PipelinePage } from './pages/pipeline.tsx';
import { SalesPage } from './pages/sales.tsx';
import { Provider, useShared } from './ui/context.ts';
import { type Preferences, THEMES, usePreferences } from './ui/use_preferences.ts';
import { useQuestion } from './ui/use_question.ts';
import { useView } from './ui/use_view.ts';
import { PAGES, format as written } from './view/state.ts';

/** Periods have edges on whole hours: this is how late they may move. */
const NOW_EVERY_MS = 10_000;

export function App() {
  const [view, go] = useView();
  const preferences = usePreferences();
  const { language, isDark } = preferences;
  const [news, setNews] = useState(NO_NEWS);
  useEffect(() => follow(setNews), []);
  const now = useNow();
  // Read anew when the mode changes, from the style sheet that goes with it.
  const theme = useMemo(() => ({ ...readTheme(), isDark }), [isDark]);
  const texts = dictionaries[language];
  const locale = localeOf(language, navigator.languages);
  const streams = useQuestion<Streams, null>('streams', null, news.ticks[''] ?? 0);
  const job = streams.data?.job;
  useEffect(() => {
    document.title = [texts.pages[view.page], job, 'affluent'].filter((part) => part !== undefined).join(' · ');
  }, [texts, view.page, job]);
  const shared = useMemo(() => ({ view, go, texts, locale, theme, news, now }), [view, go, texts, locale, theme, news, now]);
  return (
    <Provider value={shared}>
      <a class="skip" href="#content">
        {texts.skip}
      </a>
      <header class="top">
        <div class="brand">
          <img src="./icon.svg" alt="" width="28" height="28" />
          <span class="brand-name">affluent</span>
          {job !== undefined && <span class="brand-job">{job}</span>}
        </div>
        <Navigation />
        <div class="top-end">
          <ConnectionState />
          <Switches preferences={preferences} texts={texts} />
        </div>
      </header>
      <main id="content" tabIndex={-1}>
        <h1 class="hidden">{texts.pages[view.page]}</h1>
        <Gap />
        {streams.error !== null && (
          <p class="note is-warning" role="status">
            {texts.states.failed}
          </p>
        )}
        {view.page === 'pipeline' && <PipelinePage />}
        {streams.data !== null && view.page === 'sales' && <SalesPage streams={streams.data.streams} />}
        {streams.data !== null && view.page === 'clicks' && <ClicksPage streams={streams.data.streams} />}
      </main>
    </Provider>
  );
}

function useNow(): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = window.setInterval(() => setNow(Date.now()), NOW_EVERY_MS);
    return () => window.clearInterval(timer);
  }, []);
  return now;
}

function Navigation() {
  const { view, go, texts } = useShared();
  return (
    <nav class="tabs" aria-label={texts.navigation}>
      {PAGES.map((page) => (
        <a
          key={page}
          href={written({ ...view, page }) || './'}
          aria-current={view.page === page ? 'page' : undefined}
          onClick={(event) => {
            // Another tab or window is the browser's to open.
            if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
            event.preventDefault();
            go({ page });
          }}
        >
          {texts.pages[page]}
        </a>
      ))}
    </nav>
  );
}

/** The connection in a word, and a gap in a sentence. */
function useConnection(): readonly [short: string, long: string | null] {
  const { news, texts, locale } = useShared();
  const { connection, gapSince } = news;
  const since = gapSince === null ? '' : createFormat(locale, Intl.DateTimeFormat().resolvedOptions().timeZone).clock(gapSince);
  switch (connection) {
    case 'lost':
      return [texts.connection.lost_short, texts.connection.lost(since)];
    case 'unavailable':
      return [texts.connection.unavailable_short, texts.connection.unavailable(since)];
    default:
      return [texts.connection[connection], null];
  }
}

function ConnectionState() {
  const { news } = useShared();
  const [short] = useConnection();
  return (
    <span class={`connection is-${news.connection}`} role="status">
      <span class="dot" aria-hidden="true" />
      <span class="connection-text">{short}</span>
    </span>
  );
}

/** What is shown may be old: said where it is seen. */
function Gap() {
  const [, long] = useConnection();
  return long === null ? null : <p class="note is-warning">{long}</p>;
}

function Switches({ preferences, texts }: { readonly preferences: Preferences; readonly texts: Texts }) {
  return (
    <>
      <label>
        <span class="hidden">{texts.language_switch}</span>
        <select
          class="quiet"
          value={preferences.language}
          onChange={(event) => preferences.setLanguage(LANGUAGES.find((known) => known === event.currentTarget.value) ?? 'en')}
        >
          {LANGUAGES.map((language) => (
            <option key={language} value={language} lang={language}>
              {language.toUpperCase()}
            </option>
          ))}
        </select>
      </label>
      <label>
        <span class="hidden">{texts.theme.label}</span>
        <select
          class="quiet"
          value={preferences.theme}
          onChange={(event) => preferences.setTheme(THEMES.find((known) => known === event.currentTarget.value) ?? 'system')}
        >
          {THEMES.map((theme) => (
            <option key={theme} value={theme}>
              {texts.theme[theme]}
            </option>
          ))}
        </select>
      </label>
    </>
  );
}
