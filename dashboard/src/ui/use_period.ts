// The period of a page whose URL names none: the last 24 hours where they have records, else the newest 30 days that have.
//
// Owns: finding out. Does not own: the questions' edges (`view/period`).
import { useEffect, useState } from 'preact/hooks';
import { aggregate } from '../api/question.ts';
import type { Stream, Table } from '../api/types.ts';
import { single } from '../data/table.ts';
import { type Period, type Range, newest30Days, resolve } from '../view/period.ts';
import { addDays, instant } from '../view/zone.ts';
import { useQuestion } from './use_question.ts';

export interface Found {
  /** `null`: not known yet, or there is nothing. */
  readonly period: Period | null;
  /** It is known that the stream has no records. */
  readonly isEmpty: boolean;
}

/** The newest day up to today that has records. The epoch is early enough for every shop. */
export function newestDay(stream: Stream, measure: string, now: number): string {
  const range: Range = { from: instant(1970, 1, 2, 0, 0, stream.timezone), to: addDays(now, 1, stream.timezone) };
  return aggregate(stream.name, { range, measures: [measure], every: '1d', order: '-t', limit: 1 });
}

/** `measure`: one that counts records. `chosen`: what the URL says. */
export function usePeriod(stream: Stream | null, measure: string, chosen: Period | null, now: number, tick: number): Found {
  const [found, setFound] = useState<Found>({ period: null, isEmpty: false });
  const name = stream?.name;
  useEffect(() => setFound({ period: null, isEmpty: false }), [name]);

  const isWanted = stream !== null && chosen === null && found.period === null;
  const zone = stream?.timezone ?? 'UTC';
  const recent = useQuestion<Table, null>(
    isWanted ? aggregate(stream.name, { range: resolve('24h', now, zone), measures: [measure] }) : null,
    null,
    tick,
  );
  const isQuiet = recent.data !== null && !(Number(single(recent.data, measure)) > 0);
  const newest = useQuestion<Table, null>(isWanted && isQuiet ? newestDay(stream, measure, now) : null, null, tick);

  useEffect(() => {
    if (!isWanted || recent.data === null) return;
    if (!isQuiet) {
      setFound({ period: '24h', isEmpty: false });
    } else if (newest.data !== null) {
      const day = single(newest.data, 't');
      const period = day === null ? null : newest30Days(Date.parse(String(day)), zone);
      setFound({ period, isEmpty: period === null });
    }
  }, [isWanted, recent.data, isQuiet, newest.data, zone]);

  return chosen === null ? found : { period: chosen, isEmpty: false };
}
