// The colours of the pictures: those of the style sheet, so that page and pictures agree in both modes.
//
// Owns: reading them, and the defaults that all pictures share. Does not own: the colours (`style.css`).
import type { EChartsOption } from 'echarts';

export interface Theme {
  readonly ground: string;
  readonly surface: string;
  readonly raised: string;
  readonly text: string;
  readonly muted: string;
  readonly line: string;
  readonly accent: string;
  readonly accentSoft: string;
  /** The accent, wholly transparent: where a gradient ends. */
  readonly accentNone: string;
  /** From little to much: lightness alone tells them apart. */
  readonly ramp: readonly string[];
  /** Three lines that nobody's eyes confuse. */
  readonly series: readonly [string, string, string];
  readonly font: string;
  readonly isCalm: boolean;
}

export function readTheme(): Theme {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string): string => style.getPropertyValue(`--${name}`).trim();
  return {
    ground: colour('ground'),
    surface: colour('surface'),
    raised: colour('raised'),
    text: colour('text'),
    muted: colour('muted'),
    line: colour('line'),
    accent: colour('accent'),
    accentSoft: colour('accent-soft'),
    accentNone: colour('accent-none'),
    ramp: [colour('ramp-1'), colour('ramp-2'), colour('ramp-3'), colour('ramp-4'), colour('ramp-5')],
    series: [colour('series-1'), colour('series-2'), colour('series-3')],
    font: colour('font'),
    isCalm: window.matchMedia('(prefers-reduced-motion: reduce)').matches,
  };
}

/** What every picture begins with. */
export function base(theme: Theme): EChartsOption {
  return {
    animation: !theme.isCalm,
    animationDuration: 350,
    animationDurationUpdate: 350,
    animationEasing: 'cubicOut',
    animationEasingUpdate: 'cubicOut',
    textStyle: { fontFamily: theme.font, color: theme.text, fontSize: 12 },
    tooltip: {
      backgroundColor: theme.raised,
      borderColor: theme.line,
      borderWidth: 1,
      padding: [8, 12],
      textStyle: { color: theme.text, fontSize: 13, fontFamily: theme.font },
      extraCssText: 'border-radius:10px;box-shadow:0 6px 24px rgb(0 0 0/.16);',
      confine: true,
      transitionDuration: theme.isCalm ? 0 : 0.15,
    },
  };
}

/** A colour of the ramp (its steps are written #rrggbb), for a place between 0 and 1. */
export function rampAt(theme: Theme, place: number): string {
  const exact = Math.min(1, Math.max(0, place)) * (theme.ramp.length - 1);
  const [below, above] = [theme.ramp[Math.floor(exact)], theme.ramp[Math.ceil(exact)]];
  if (below === undefined || above === undefined) return theme.accent;
  const share = exact - Math.floor(exact);
  const channels = [1, 3, 5].map((at) => {
    const [from, to] = [below, above].map((colour) => parseInt(colour.slice(at, at + 2), 16));
    return Math.round((from ?? 0) * (1 - share) + (to ?? 0) * share);
  });
  return `rgb(${channels.join(', ')})`;
}
