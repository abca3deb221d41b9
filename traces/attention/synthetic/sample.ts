/**
 * A sample of a head's queries and of the text's keys, and their logits by part: enough to know the head's attention in
 * the text under any strength of the parts, since logits are linear in them. Keys are taken by stride, with noise of
 * their own.
 */
import { createRandom } from '../../../sim/engine/random.ts';
import { rotateRows } from '../../../sim/trace/rope.ts';
import { groupQueries } from './queries.ts';
import { placeInText } from './regions.ts';
import { mixRows, type RowSource, saltOf, spreadKeys } from './rows.ts';

const sampledKeys = 2048;
const sampledSteps = 6;
const sampledHeads = 4;

/** Most keys that a sample can have: a stride of less than two is one. */
export const maxSampleKeys = sampledKeys * 2;

/** Logits of sampled queries (rows) over sampled keys (columns) [queries, keys]. */
export interface Sample {
  readonly queries: number;
  readonly keys: number;
  /** Of the mean key where each key stands, of the key's own deviation from it, and of one nat of salience. */
  readonly level: Float64Array;
  readonly deviation: Float64Array;
  readonly nat: Float64Array;
  /** Rank of each key's token in salience, as in SyntheticText, and its place in the text [keys]. */
  readonly ranks: Float64Array;
  readonly places: Float64Array;
}

/** Steps in the middle of equal parts of the run. */
function sampledStepsOf(steps: number): readonly number[] {
  const count = Math.min(sampledSteps, steps);
  return Array.from({ length: count }, (_, i) => Math.floor(((i + 0.5) * steps) / count));
}

/** Rotated queries of some steps and heads. */
function sampleQueries(source: RowSource, steps: number): readonly Float32Array[] {
  const { headDim, frequencies, geometry, promptTokens } = source;
  const heads = Math.min(sampledHeads, geometry.profile.queries.length);
  return sampledStepsOf(steps).flatMap((step) => {
    const group = groupQueries(source, promptTokens + step);
    rotateRows(group, group.length / headDim, frequencies, promptTokens + step, 0);
    return Array.from({ length: heads }, (_, head) => group.subarray(head * headDim, (head + 1) * headDim));
  });
}

export function sampleLogits(source: RowSource, steps: number): Sample {
  const { headDim, geometry, text, seed, layer, kvHead, frequencies } = source;
  const { keyMean, salientAxis, profile } = geometry;
  const { textFrom, textTo } = text.bounds;
  const tokens = Math.max(1, textTo - textFrom);
  const stride = Math.max(1, Math.floor(tokens / sampledKeys));
  const positions = Array.from({ length: Math.floor(tokens / stride) }, (_, i) => textFrom + i * stride);
  const queries = sampleQueries(source, steps);
  const logitsOf = (fill: (keys: Float32Array) => void): Float64Array => {
    const keys = new Float32Array(positions.length * headDim);
    fill(keys);
    rotateRows(keys, positions.length, frequencies, textFrom, stride);
    return multiply(keys, queries);
  };
  const same = (key: Float64Array) => (keys: Float32Array) => {
    for (let at = 0; at < keys.length; at += headDim) keys.set(key, at);
  };
  return {
    queries: queries.length,
    keys: positions.length,
    level: logitsOf(same(keyMean)),
    deviation: logitsOf((keys) => {
      createRandom(seed, `calibrate.${layer}.${kvHead}`).fillNormal(keys);
      mixRows(source, profile.keyCoherence, saltOf.key, keys, textFrom, stride);
      spreadKeys(source, keys, textFrom, stride);
    }),
    nat: logitsOf(same(salientAxis)),
    ranks: Float64Array.from(positions, (token) => text.salience[text.types[token]]),
    places: Float64Array.from(positions, (token) => placeInText(text.bounds, token)),
  };
}

/** Logits [queries, keys]. */
function multiply(keys: Float32Array, queries: readonly Float32Array[]): Float64Array {
  const headDim = queries[0].length;
  const count = keys.length / headDim;
  const scale = 1 / Math.sqrt(headDim);
  const logits = new Float64Array(queries.length * count);
  let out = 0;
  for (const query of queries) {
    for (let key = 0, at = 0; key < count; key++) {
      let sum = 0;
      for (let c = 0; c < headDim; c++, at++) sum += query[c] * keys[at];
      logits[out++] = sum * scale;
    }
  }
  return logits;
}
