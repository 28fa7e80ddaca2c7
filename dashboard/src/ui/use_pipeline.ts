// The pipeline's state, asked every few seconds, and the rates between two answers.
import { useEffect, useState } from 'preact/hooks';
import type { Pipeline } from '../api/types.ts';
import { type Sample, between, remember } from '../data/throughput.ts';
import { type Answer, useQuestion } from './use_question.ts';
import { useTick } from './use_tick.ts';

const EVERY_MS = 5_000;

export interface PipelineState {
  readonly answer: Answer<Pipeline, null>;
  readonly samples: readonly Sample[];
}

export function usePipeline(): PipelineState {
  const answer = useQuestion<Pipeline, null>('pipeline', null, useTick(EVERY_MS));
  const [seen, setSeen] = useState<{ readonly last: Pipeline | null; readonly samples: readonly Sample[] }>({ last: null, samples: [] });
  const { data } = answer;
  useEffect(() => {
    if (data === null) return;
    setSeen(({ last, samples }) => {
      if (last === null) return { last: data, samples };
      const sample = between(last, data);
      return sample === null ? { last, samples } : { last: data, samples: remember(samples, sample) };
    });
  }, [data]);
  return { answer, samples: seen.samples };
}
