// A number that grows: for questions that nobody announces news of.
import { useEffect, useState } from 'preact/hooks';

export function useTick(everyMs: number): number {
  const [tick, setTick] = useState(0);
  useEffect(() => {
    const timer = window.setInterval(() => setTick((before) => before + 1), everyMs);
    return () => window.clearInterval(timer);
  }, [everyMs]);
  return tick;
}
