// Choosing a period: presets, and a range of one's own in the stream's zone.
//
// Owns: the controls. Does not own: what a period means (`view/period`).
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import type { Format } from '../i18n/format.ts';
import { PRESETS, type Period, type Range, snap } from '../view/period.ts';
import { instant, wall } from '../view/zone.ts';
import { useShared } from './context.ts';

interface Properties {
  readonly period: Period | null;
  readonly range: Range | null;
  readonly zone: string;
  readonly format: Format;
}

export function PeriodBar({ period, range, zone, format }: Properties) {
  const { texts, go } = useShared();
  const [isOpen, setIsOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const opener = useRef<HTMLButtonElement>(null);
  const id = useId();
  const isCustom = period !== null && typeof period !== 'string';

  useEffect(() => {
    if (!isOpen) return;
    const outside = (event: PointerEvent): void => {
      if (event.target instanceof Node && root.current?.contains(event.target) === false) setIsOpen(false);
    };
    const escape = (event: KeyboardEvent): void => {
      if (event.key !== 'Escape') return;
      setIsOpen(false);
      opener.current?.focus();
    };
    document.addEventListener('pointerdown', outside);
    document.addEventListener('keydown', escape);
    return () => {
      document.removeEventListener('pointerdown', outside);
      document.removeEventListener('keydown', escape);
    };
  }, [isOpen]);

  return (
    <div class="period" ref={root}>
      <div class="segments" role="group" aria-label={texts.period.label}>
        {PRESETS.map((preset) => (
          <button key={preset} type="button" aria-pressed={period === preset} onClick={() => go({ period: preset })}>
            {texts.period[preset]}
          </button>
        ))}
        <button ref={opener} type="button" aria-pressed={isCustom} aria-expanded={isOpen} aria-controls={id} onClick={() => setIsOpen(!isOpen)}>
          {texts.period.custom}
        </button>
      </div>
      {range !== null && <p class="period-shown">{format.range(range)}</p>}
      <div id={id} class="popover" hidden={!isOpen}>
        {isOpen && range !== null && <Custom range={range} zone={zone} done={() => setIsOpen(false)} />}
      </div>
    </div>
  );
}

function Custom({ range, zone, done }: { readonly range: Range; readonly zone: string; readonly done: () => void }) {
  const { texts, go } = useShared();
  const [from, setFrom] = useState(() => written(range.from, zone));
  const [to, setTo] = useState(() => written(range.to, zone));
  const [isWrong, setIsWrong] = useState(false);
  const submit = (event: Event): void => {
    event.preventDefault();
    const [begin, end] = [read(from, zone), read(to, zone)];
    if (begin === null || end === null || end <= begin) {
      setIsWrong(true);
      return;
    }
    go({ period: snap({ from: begin, to: end }, zone) });
    done();
  };
  return (
    <form onSubmit={submit}>
      <label>
        {texts.period.from}
        <input type="datetime-local" step={3_600} required value={from} onInput={(event) => setFrom(event.currentTarget.value)} />
      </label>
      <label>
        {texts.period.to}
        <input type="datetime-local" step={3_600} required value={to} onInput={(event) => setTo(event.currentTarget.value)} />
      </label>
      {isWrong && <p class="note is-warning" role="alert">{texts.period.backwards}</p>}
      <p class="hint">{texts.period.zone(zone)}</p>
      <button type="submit" class="primary">
        {texts.period.apply}
      </button>
    </form>
  );
}

/** As `datetime-local` wants it. */
function written(time: number, zone: string): string {
  const shown = wall(time, zone);
  const two = (number: number): string => String(number).padStart(2, '0');
  return `${String(shown.year).padStart(4, '0')}-${two(shown.month)}-${two(shown.day)}T${two(shown.hour)}:00`;
}

function read(text: string, zone: string): number | null {
  const [, year, month, day, hour] = /^(\d{4,})-(\d\d)-(\d\d)T(\d\d):\d\d/.exec(text) ?? [];
  if (hour === undefined) return null;
  return instant(Number(year), Number(month), Number(day), Number(hour), 0, zone);
}
