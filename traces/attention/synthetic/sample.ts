/**
 * A sample of a head's queries and keys, and their logits by part: enough to know the head's attention under any
 * strength of the parts, since logits are linear in them. Keys are taken by stride, with noise of their own.
 */
import { createRandom } from '../../../sim/engine/random.ts';
import { rotateRows } from '../../../sim/trace/rope.ts';
import { startTokens } from './balance.ts';
import { groupQueries } from './queries.ts';
import { mixRows, type RowSource, saltOf, spreadKeys } from './rows.ts';

const farSamples = 2048;
const sampledSteps = 4;
const sampledHeads = 4;

/** Most keys that a sample can have: a stride of less than two is one. */
export const maxSampleKeys = farSamples * 2;

/** Logits of sampled queries (rows) over sampled keys (columns) [queries, keys]; each key stands for `weights` keys. */
export interface Sample {
  readonly queries: number;
  readonly keys: number;
  readonly weights: Float64Array;
  /** Of keys without salience, and of one nat of it. */
  readonly plain: Float64Array;
  readonly nat: Float64Array;
  /** Rank of each key's token in salience, as in SyntheticText [keys]. */
  readonly ranks: Float64Array;
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

/** Keys [from, to) by stride. */
function farRun(from: number, to: number): KeyRun {
  const stride = Math.max(1, Math.floor((to - from) / farSamples));
  const count = Math.floor((to - from) / stride);
  return { first: from, stride, count, weight: (to - from) / count };
}

/** The text's keys by stride. */
const sampleRuns = ({ text }: RowSource): readonly KeyRun[] => [
  farRun(startTokens, Math.max(startTokens + 1, text.questionStart)),
];

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
  const { keyMean, salientAxis, profile } = geometry;
  const queries = sampleQueries(source, steps);
  const runs = sampleRuns(source);
  const random = createRandom(seed, `calibrate.${layer}.${kvHead}`);
  const plain = placeRows(source, runs, (rows, { first, stride }) => {
    random.fillNormal(rows);
    mixRows(source, profile.keyCoherence, saltOf.key, rows, first, stride);
    spreadKeys(source, rows, first, stride);
    for (let i = 0; i < rows.length; i++) rows[i] += keyMean[i % headDim];
  });
  const nat = placeRows(source, runs, (rows) => {
    for (let at = 0; at < rows.length; at += headDim) rows.set(salientAxis, at);
  });
  const ranks = runs.flatMap(({ first, stride, count }) =>
    Array.from({ length: count }, (_, i) => text.salience[text.types[first + i * stride]]),
  );
  return {
    queries: queries.length,
    keys: plain.length / headDim,
    weights: Float64Array.from(runs.flatMap((run) => new Array<number>(run.count).fill(run.weight))),
    plain: logitsOf(plain, queries),
    nat: logitsOf(nat, queries),
    ranks: Float64Array.from(ranks),
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
