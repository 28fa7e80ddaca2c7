// One figure in large type, and how it changed.
//
// Owns: the tile. Does not own: the figure, which is the server's own sum.
import type { ComponentChildren } from 'preact';
import type { Format } from '../i18n/format.ts';
import { useShared } from './context.ts';

interface Properties {
  readonly label: string;
  /** `null`: not known yet. */
  readonly value: string | null;
  readonly name: string;
  readonly isStale: boolean;
  readonly hint?: string;
  readonly children?: ComponentChildren;
}

export function Figure({ label, value, name, isStale, hint, children }: Properties) {
  return (
    <div class="figure" title={hint}>
      <dt>{label}</dt>
      <dd class={isStale ? 'figure-value is-stale' : 'figure-value'} data-figure={name}>
        {value ?? <span class="waiting-text" />}
      </dd>
      {children !== undefined && <dd class="figure-more">{children}</dd>}
    </div>
  );
}

/** Both over periods of the same length. */
export interface ChangeProperties {
  readonly current: number | null;
  readonly previous: number | null;
  /** The period before, in words. */
  readonly period: string | null;
  readonly format: Format;
}

export function Change({ current, previous, period, format }: ChangeProperties) {
  const { texts } = useShared();
  if (current === null || previous === null || period === null || !(previous > 0)) {
    return <span class="hint">{texts.figures.noChange}</span>;
  }
  const share = (current - previous) / previous;
  const [mark, style, word] =
    Math.abs(share) < 0.0005
      ? ['→', 'is-level', texts.figures.unchanged]
      : share > 0
        ? ['↗', 'is-up', texts.figures.up]
        : ['↘', 'is-down', texts.figures.down];
  return (
    <span title={texts.figures.change(period)}>
      <span class={`change ${style}`}>
        <span aria-hidden="true">{mark} </span>
        <span class="hidden">{word} </span>
        {format.change(share)}
      </span>{' '}
      <span class="hint">{texts.figures.versus}</span>
    </span>
  );
}
