/**
 * A sample of a head's queries and keys, and their logits by part: enough to know the head's attention under any
 * strength of the parts, since logits are linear in them. Keys are taken by stride, with noise of their own.
 */
import { createRandom } from '../../../sim/engine/random.ts';
import { rotateRows } from '../../../sim/trace/rope.ts';
import { groupQueries } from './queries.ts';
import { mixRows, type RowSource, saltOf, sinkTokens, spreadKeys } from './rows.ts';

const farSamples = 2048;
const nearTokens = 256;
const sampledSteps = 4;
const sampledHeads = 4;

/** Most keys that a sample can have: a stride of less than two is one. */
export const maxSampleKeys = farSamples * 2 + nearTokens;

/** Logits of sampled queries (rows) over sampled keys (columns) [queries, keys]; each key stands for `weights` keys. */
export interface Sample {
  readonly queries: number;
  readonly keys: number;
  readonly weights: Float64Array;
  /** Of keys without salience, and of one nat of it. */
  readonly plain: Float64Array;
  readonly salient: Float64Array;
  /** Of the first token's key, and of one nat more of it [queries]. */
  readonly sink: Float64Array;
  readonly sinkNat: Float64Array;
}

/** Steps in the middle of equal parts of the run. */
function sampledStepsOf(steps: number): readonly number[] {
  const count = Math.min(sampledSteps, steps);
  return Array.from({ length: count }, (_, i) => Math.floor(((i + 0.5) * steps) / count));
}

/** Rotated queries of some steps and heads. */
function sampleQueries(rows: RowSource, steps: number): readonly Float32Array[] {
  const { headDim, frequencies, geometry, promptTokens } = rows;
  const heads = Math.min(sampledHeads, geometry.profile.queries.length);
  return sampledStepsOf(steps).flatMap((step) => {
    const group = groupQueries(rows, promptTokens + step);
    rotateRows(group, group.length / headDim, frequencies, promptTokens + step, 0);
    return Array.from({ length: heads }, (_, head) => group.subarray(head * headDim, (head + 1) * headDim));
  });
}

interface KeyRun {
  readonly first: number;
  readonly stride: number;
  readonly count: number;
  /** Keys of the trace that each sampled key stands for. */
  readonly weight: number;
}

/** Far keys by stride, then the last tokens. */
function sampleRuns(promptTokens: number): readonly KeyRun[] {
  const near = Math.min(nearTokens, Math.floor(promptTokens / 4));
  const firstNear = promptTokens - near + 1;
  const farTokens = firstNear - sinkTokens;
  const stride = Math.max(1, Math.floor(farTokens / farSamples));
  const far = Math.floor(farTokens / stride);
  return [
    { first: sinkTokens, stride, count: far, weight: farTokens / far },
    { first: firstNear, stride: 1, count: near, weight: 1 },
  ];
}

/** Rotated rows of all runs; `fill` makes a run's unrotated rows. */
function placeRows(
  source: RowSource,
  runs: readonly KeyRun[],
  fill: (rows: Float32Array, run: KeyRun) => void,
): Float32Array {
  const { headDim, frequencies } = source;
  const keys = new Float32Array(runs.reduce((sum, run) => sum + run.count, 0) * headDim);
  let at = 0;
  for (const run of runs) {
    const rows = keys.subarray(at * headDim, (at + run.count) * headDim);
    fill(rows, run);
    rotateRows(rows, run.count, frequencies, run.first, run.stride);
    at += run.count;
  }
  return keys;
}

export function sampleLogits(source: RowSource, steps: number): Sample {
  const { headDim, geometry, text, seed, layer, kvHead } = source;
  const { keyMean, salientAxis, sinkKey, profile } = geometry;
  const queries = sampleQueries(source, steps);
  const runs = sampleRuns(source.promptTokens);
  const random = createRandom(seed, `calibrate.${layer}.${kvHead}`);
  const plain = placeRows(source, runs, (rows, { first, stride }) => {
    random.fillNormal(rows);
    mixRows(source, profile.keyCoherence, saltOf.key, rows, first, stride);
    spreadKeys(source, rows, first, stride);
    for (let i = 0; i < rows.length; i++) rows[i] += keyMean[i % headDim];
  });
  const salient = placeRows(source, runs, (rows, { first, stride }) => {
    for (let at = 0, token = first; at < rows.length; at += headDim, token += stride)
      if (text.salience[text.types[token]] < profile.salientRatio) rows.set(salientAxis, at);
  });
  return {
    queries: queries.length,
    keys: plain.length / headDim,
    weights: Float64Array.from(runs.flatMap((run) => new Array<number>(run.count).fill(run.weight))),
    plain: logitsOf(plain, queries),
    salient: logitsOf(salient, queries),
    sink: logitsOf(Float32Array.from(sinkKey), queries),
    sinkNat: logitsOf(Float32Array.from(salientAxis), queries),
  };
}

/** Logits [queries, keys]. */
function logitsOf(keys: Float32Array, queries: readonly Float32Array[]): Float64Array {
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
