// Which measure the pictures show.
import { useShared } from '../../ui/context.ts';
import { MEASURES } from '../../view/state.ts';

export function MeasureSwitch() {
  const { view, go, texts } = useShared();
  return (
    <div class="segments" role="group" aria-label={texts.measure.label}>
      {MEASURES.map((measure) => (
        <button key={measure} type="button" aria-pressed={view.measure === measure} onClick={() => go({ measure })}>
          {texts.measure[measure]}
        </button>
      ))}
    </div>
  );
}
