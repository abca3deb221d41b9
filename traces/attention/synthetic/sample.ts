/**
 * A sample of a head's queries and keys, and their logits by part: enough to know the head's attention under any weights
 * of the parts, since logits are linear in them. Keys are taken by stride, with noise of their own.
 */
import { createRandom } from '../../../sim/engine/random.ts';
import { constantQuery, contentQueries, latchedPassage, type QuerySource, salientQuery } from './queries.ts';
import { rotateRows } from './rope.ts';
import { dressKeys, type RowSource, sinkTokens } from './rows.ts';

const farSamples = 2048;
const nearTokens = 256;
const latchedTokens = 64;
const sampledSteps = 4;
const sampledHeads = 3;

/** Most keys that a sample can have. */
export const maxSampleKeys = farSamples * 2 + nearTokens + sampledSteps * latchedTokens;

/** Logits of sampled queries (rows) over sampled keys (columns), by part; each key stands for `weights` keys. */
export interface Sample {
  readonly queries: number;
  readonly keys: number;
  readonly near: number;
  readonly weights: Float64Array;
  /** [queries, keys] */
  readonly content: Float64Array;
  readonly salient: Float64Array;
  readonly kernel: Float64Array;
  readonly constant: Float64Array;
}

/** Steps in the middle of equal parts of the run. */
function sampledStepsOf(steps: number): readonly number[] {
  const count = Math.min(sampledSteps, steps);
  return Array.from({ length: count }, (_, i) => Math.floor(((i + 0.5) * steps) / count));
}

/** Rotated content queries of some steps and heads, then the three parts that all of them share. */
export function sampleQueries(source: QuerySource): Float32Array {
  const { rows, group, promptTokens, steps } = source;
  const { headDim, geometry, frequencies } = rows;
  const taken = sampledStepsOf(steps);
  const heads = Math.min(sampledHeads, group);
  const queries = new Float32Array((taken.length * heads + 3) * headDim);
  for (const [i, step] of taken.entries()) {
    const content = contentQueries(source, step);
    queries.set(content.subarray(0, heads * headDim), i * heads * headDim);
  }
  const shared = taken.length * heads * headDim;
  queries.set(salientQuery(geometry), shared);
  queries.set(geometry.kernel, shared + headDim);
  queries.set(constantQuery(geometry), shared + 2 * headDim);
  rotateRows(queries, queries.length / headDim, frequencies, promptTokens, 0);
  return queries;
}

interface KeyRun {
  readonly first: number;
  readonly stride: number;
  readonly count: number;
  /** Keys of the trace that each sampled key stands for. */
  readonly weight: number;
}

/** Far keys by stride, passages that sampled steps are latched to (a stride would miss them), then the last tokens. */
function sampleRuns(source: QuerySource): readonly KeyRun[] {
  const { rows, promptTokens, steps } = source;
  const near = Math.min(nearTokens, Math.floor(promptTokens / 4));
  const firstNear = promptTokens - near + 1;
  const farTokens = firstNear - sinkTokens;
  const stride = Math.max(1, Math.floor(farTokens / farSamples));
  const far = Math.floor(farTokens / stride);
  const runs: KeyRun[] = [{ first: sinkTokens, stride, count: far, weight: farTokens / far }];
  const latched = new Set(sampledStepsOf(steps).map((step) => latchedPassage(source, step)));
  for (const passage of stride > 1 ? latched : []) {
    const first = rows.text.starts[passage];
    const length = Math.min(rows.text.starts[passage + 1], firstNear) - first;
    const count = Math.min(length, latchedTokens);
    if (first >= sinkTokens && count > 0) runs.push({ first, stride: 1, count, weight: length / count });
  }
  return [...runs, { first: firstNear, stride: 1, count: near, weight: 1 }];
}

/** `noisy` false leaves out each key's own noise, for sums that account for it by its variance. */
export function sampleLogits(source: QuerySource, queries: Float32Array, noisy: boolean): Sample {
  const { rows } = source;
  const { headDim } = rows;
  const runs = sampleRuns(source);
  const count = runs.reduce((sum, run) => sum + run.count, 0);
  const keys = new Float32Array(count * headDim);
  const weights = new Float64Array(count);
  if (noisy) createRandom(rows.seed, `calibrate.${rows.layer}.${rows.kvHead}`).fillNormal(keys);
  let at = 0;
  for (const run of runs) {
    placeKeys(rows, keys.subarray(at * headDim, (at + run.count) * headDim), run.first, run.stride);
    weights.fill(run.weight, at, at + run.count);
    at += run.count;
  }
  const sampled = queries.length / headDim - 3;
  const part = (index: number): Float64Array =>
    logitsOf(keys, queries.subarray(index * headDim, (index + 1) * headDim));
  const content = new Float64Array(sampled * count);
  for (let q = 0; q < sampled; q++) content.set(part(q), q * count);
  return {
    queries: sampled,
    keys: count,
    near: runs[runs.length - 1].count,
    weights,
    content,
    salient: part(sampled),
    kernel: part(sampled + 1),
    constant: part(sampled + 2),
  };
}

function placeKeys(rows: RowSource, keys: Float32Array, first: number, stride: number): void {
  dressKeys(rows, keys, first, stride);
  rotateRows(keys, keys.length / rows.headDim, rows.frequencies, first, stride);
}

export function logitsOf(keys: Float32Array, query: Float32Array): Float64Array {
  const headDim = query.length;
  const scale = 1 / Math.sqrt(headDim);
  const logits = new Float64Array(keys.length / headDim);
  for (let key = 0, at = 0; key < logits.length; key++) {
    let sum = 0;
    for (let c = 0; c < headDim; c++, at++) sum += query[c] * keys[at];
    logits[key] = sum * scale;
  }
  return logits;
}
