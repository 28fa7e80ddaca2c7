// Whether the page is as narrow as a phone.
import { useEffect, useState } from 'preact/hooks';

const narrow = window.matchMedia('(max-width: 640px)');

export function useIsNarrow(): boolean {
  const [isNarrow, setIsNarrow] = useState(narrow.matches);
  useEffect(() => {
    const changed = (): void => setIsNarrow(narrow.matches);
    narrow.addEventListener('change', changed);
    return () => narrow.removeEventListener('change', changed);
  }, []);
  return isNarrow;
}
