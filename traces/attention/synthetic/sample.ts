/**
 * A sample of a head's queries and of the text's keys, and their logits by part: enough to know the head's attention in
 * the text under any strength of the parts, since logits are linear in them. Keys are taken by stride, with noise of
 * their own.
 */
import { log } from '../../../sim/engine/math.ts';
import { createRandom } from '../../../sim/engine/random.ts';
import { logitsInto } from '../../../sim/quality/exact-attention.ts';
import { rotateRows } from '../../../sim/trace/rope.ts';
import { groupQueries } from './queries.ts';
import { keptSteps, placeInText } from './regions.ts';
import { lengthAt } from './roundness.ts';
import { drawDeviations, type RowSource, roundKeys } from './rows.ts';

/** Keys looked at: all of a text of 8K tokens, since a few tokens may have much of its mass. */
const sampledKeys = 8192;
/** Pairs of steps `keptSteps` apart. */
const sampledPairs = 6;
const sampledHeads = 2;

/** Most keys that a sample can have: a stride of less than two is one. */
export const maxSampleKeys = sampledKeys * 2;

/** Logits of sampled queries (rows) over sampled keys (columns) [queries, keys]. */
export interface Sample {
  readonly queries: number;
  /** Queries of one step; those of every second step are held against those of the step before. */
  readonly perStep: number;
  readonly keys: number;
  /**
   * Of the mean key where each key stands, of its part that turns with distance, of the key's own deviation, and of one nat
   * of salience.
   */
  readonly level: Float32Array;
  readonly turning: Float32Array;
  readonly deviation: Float32Array;
  readonly nat: Float32Array;
  /** Logarithm of the length of each key's deviation, as roundness takes it away [keys]. */
  readonly lengths: Float64Array;
  /** Rank of each key's token in salience, as in SyntheticText, and its place in the text [keys]. */
  readonly ranks: Float64Array;
  readonly places: Float64Array;
}

/** Steps in the middle of equal parts of the run, each followed by the one that it is held against. */
function sampledStepsOf(steps: number): readonly number[] {
  const count = Math.min(sampledPairs, steps);
  return Array.from({ length: count }, (_, i) => Math.floor(((i + 0.5) * steps) / count)).flatMap((step) => [
    step,
    step + keptSteps,
  ]);
}

/** Rotated queries of some steps, of each pair some heads in turn [queries, headDim]. */
function sampleQueries(source: RowSource, steps: number): Float32Array {
  const { headDim, frequencies, geometry, promptTokens } = source;
  const heads = geometry.profile.queries.length;
  const taken = Math.min(sampledHeads, heads);
  const sampled = sampledStepsOf(steps);
  const rows = new Float32Array(sampled.length * taken * headDim);
  for (const [i, step] of sampled.entries()) {
    const group = groupQueries(source, promptTokens + step);
    rotateRows(group, heads, frequencies, promptTokens + step, 0);
    for (let j = 0, at = i * taken; j < taken; j++, at++) {
      const head = ((i >> 1) * taken + j) % heads;
      rows.set(group.subarray(head * headDim, (head + 1) * headDim), at * headDim);
    }
  }
  return rows;
}

export function sampleLogits(source: RowSource, steps: number): Sample {
  const { headDim, geometry, text, seed, layer, kvHead, frequencies } = source;
  const { keyMean, salientAxis, profile } = geometry;
  const { textFrom, textTo } = text.bounds;
  const tokens = Math.max(1, textTo - textFrom);
  const stride = Math.max(1, Math.floor(tokens / sampledKeys));
  const positions = Array.from({ length: Math.floor(tokens / stride) }, (_, i) => textFrom + i * stride);
  const queries = sampleQueries(source, steps);
  const count = queries.length / headDim;
  const logitsOf = (fill: (keys: Float32Array) => void): Float32Array => {
    const keys = new Float32Array(positions.length * headDim);
    fill(keys);
    rotateRows(keys, positions.length, frequencies, textFrom, stride);
    const logits = new Float32Array(count * positions.length);
    logitsInto(queries, count, keys, headDim, positions.length, logits, positions.length);
    return logits;
  };
  const lengths = new Float64Array(positions.length);
  const same = (key: Float64Array) => (keys: Float32Array) => {
    for (let at = 0; at < keys.length; at += headDim) keys.set(key, at);
  };
  return {
    queries: count,
    perStep: Math.min(sampledHeads, profile.queries.length),
    keys: positions.length,
    level: logitsOf(same(keyMean)),
    deviation: logitsOf((keys) => {
      drawDeviations(source, createRandom(seed, `calibrate.${layer}.${kvHead}`), keys, textFrom, stride);
      for (const i of positions.keys()) lengths[i] = log(lengthAt(geometry.logitWeights, keys, i * headDim));
      roundKeys(geometry, 0, keys);
    }),
    turning: logitsOf(same(geometry.turningMean)),
    nat: logitsOf(same(salientAxis)),
    lengths,
    ranks: Float64Array.from(positions, (token) => text.salience[text.types[token]]),
    places: Float64Array.from(positions, (token) => placeInText(text.bounds, token)),
  };
}
