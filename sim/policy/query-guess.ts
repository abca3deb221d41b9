/**
 * Queries guessed before a layer's own exist, for policies that choose and fetch while an earlier layer computes. Real
 * systems project the earlier layer's input with the later layer's weights; a trace holds no hidden states, so the
 * guess is the layer's own query or the previous step's, with noise to make it as bad as one likes.
 */
import * as z from 'zod';
import type { StepView } from './policy.ts';

export const guessFields = {
  guess: z
    .enum(['this-step', 'previous-step'])
    .default('this-step')
    .describe(
      "stands for a guess from an earlier layer's input: the layer's own query, or the previous step's",
    ),
  guessNoise: z
    .number()
    .min(0)
    .default(0)
    .describe(
      "normal noise on the guessed query, as a ratio to the query's length; 0.33 makes their cosine 0.95",
    ),
};
export interface GuessConfig {
  readonly guess: 'this-step' | 'previous-step';
  readonly guessNoise: number;
}

/** What a result says of a guess. */
export const guessInputs = ({ guess, guessNoise }: GuessConfig): string => {
  const query = guess === 'this-step' ? "the layer's own query" : "the previous step's query";
  const noise = guessNoise > 0 ? ` with noise ${guessNoise}` : '';
  return `${query}${noise} instead of a guess from an earlier layer's input (the trace has no hidden states)`;
};

export class QueryGuess {
  private readonly config: GuessConfig;
  private readonly headDim: number;
  /** Per head, the queries of the step before. */
  private readonly previous: Float32Array[] = [];

  constructor(config: GuessConfig, headDim: number) {
    this.config = config;
    this.headDim = headDim;
  }

  /** Guessed queries of the group of head `at`: row-major [groupSize, headDim]. To be asked once a step and head. */
  of(view: StepView, at: number): Float32Array {
    const now = view.queries(at);
    const { guess, guessNoise } = this.config;
    const base = guess === 'previous-step' ? (this.previous[at] ?? now) : now;
    this.previous[at] = now.slice();
    if (guessNoise === 0) return base;
    const { headDim } = this;
    const { random } = view.heads[at];
    const noisy = base.slice();
    for (let row = 0; row < noisy.length; row += headDim) {
      let square = 0;
      for (let c = 0; c < headDim; c++) square += base[row + c] * base[row + c];
      const deviation = guessNoise * Math.sqrt(square / headDim);
      for (let c = 0; c < headDim; c++) noisy[row + c] += deviation * random.normal();
    }
    return noisy;
  }
}
