/**
 * How long a key's deviation is in the channels that logits hang on. Keys of real models are linear in normalised hidden
 * states, so few are much longer than others, and the upper tail of logits is that of a sphere of a few dozen
 * dimensions, which normal channels do not have.
 */
import type { HeadProfile } from '../presets/preset.ts';

/** Weight of each channel, mean 1: share of a logit's variance; a rotary pair's channels count alike, as rotation mixes them. */
export function logitWeights({
  keyDeviation,
  queries,
}: Pick<HeadProfile, 'keyDeviation' | 'queries'>): Float64Array {
  const pairs = keyDeviation.length / 2;
  const weights = new Float64Array(2 * pairs);
  for (const { mean, deviation } of queries) {
    for (let c = 0; c < 2 * pairs; c++) {
      const pair = c % pairs;
      const [along, across] = [deviation[pair], deviation[pair + pairs]];
      const query = mean[pair] * mean[pair] + along * along + across * across;
      weights[c] += query * keyDeviation[c] * keyDeviation[c];
    }
  }
  const average = weights.reduce((sum, x) => sum + x, 0) / weights.length;
  return average > 0 ? weights.map((x) => x / average) : weights.fill(1);
}

/** Length of the unit deviations at `at` in weighted channels, over what it is on average (root of the mean square). */
export function lengthAt(weights: Float64Array, rows: Float32Array, at: number): number {
  let square = 0;
  for (let c = 0; c < weights.length; c++) square += weights[c] * rows[at + c] * rows[at + c];
  return Math.sqrt(Math.max(leastSquare, square / weights.length));
}

/** A vector shorter than this is not made longer without end. */
const leastSquare = 1e-2;
