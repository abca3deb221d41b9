/**
 * A few of a head's queries and keys as the trace has them, rotated to their places, and the mass that such queries give
 * to such keys: what balance.ts and newest.ts look at.
 */
import { exp, log } from '../../../sim/engine/math.ts';
import { logitsInto } from '../../../sim/quality/exact-attention.ts';
import { rotateRows } from '../../../sim/trace/rope.ts';
import { groupQueries } from './queries.ts';
import { blockTokens, fillKeys, type HeadScales, type RowSource } from './rows.ts';

/** Steps looked at, in the middle of equal parts of `answerTokens`: shares differ more by step than by query head. */
const probedSteps = Array.from({ length: 32 }, (_, i) => 2 * i + 1);
const probedHeads = 8;

/** Rotated queries [count, headDim], of each step every second head in turn. */
export interface ProbeQueries {
  readonly rows: Float32Array;
  readonly count: number;
  /** Decode step of each query. */
  readonly steps: readonly number[];
}

export function probeQueries(source: RowSource, scales: HeadScales): ProbeQueries {
  const { headDim, promptTokens, geometry, frequencies } = source;
  const heads = Math.min(probedHeads, geometry.profile.queries.length);
  const stride = Math.min(2, heads);
  const rows: Float32Array[] = [];
  const steps: number[] = [];
  for (const [i, step] of probedSteps.entries()) {
    const group = groupQueries(source, promptTokens + step, scales);
    rotateRows(group, heads, frequencies, promptTokens + step, 0);
    for (let head = i % stride; head < heads; head += stride) {
      rows.push(group.subarray(head * headDim, (head + 1) * headDim));
      steps.push(step);
    }
  }
  return { rows: concatenate(rows, headDim), count: steps.length, steps };
}

function concatenate(rows: readonly Float32Array[], width: number): Float32Array {
  const all = new Float32Array(rows.length * width);
  for (const [i, row] of rows.entries()) all.set(row, i * width);
  return all;
}

/** A run of keys at consecutive positions, and how many keys of the trace each of them stands for. */
export interface KeyRun {
  readonly keys: Float32Array;
  readonly tokens: number;
  readonly weight: number;
}

/** Keys [from, to) as the trace has them. */
export function keyRun(source: RowSource, scales: HeadScales, from: number, to: number): KeyRun {
  const { headDim } = source;
  const block = from - (from % blockTokens);
  const keys = new Float32Array(Math.max(0, to - block) * headDim);
  fillKeys(source, scales, block, keys);
  return { keys: keys.subarray((from - block) * headDim), tokens: Math.max(0, to - from), weight: 1 };
}

/** Logarithm of each query's mass on the first so many keys of each run that it sees. */
export function logMasses(
  { rows, count }: ProbeQueries,
  runs: readonly KeyRun[],
  seen: (query: number, run: KeyRun) => number,
): Float64Array {
  const headDim = rows.length / count;
  const top = new Float64Array(count).fill(-1e3);
  const mass = new Float64Array(count);
  for (const run of runs) {
    const { keys, tokens, weight } = run;
    const logits = new Float32Array(count * tokens);
    logitsInto(rows, count, keys, headDim, tokens, logits, tokens);
    for (let query = 0; query < count; query++) {
      const row = logits.subarray(query * tokens, query * tokens + seen(query, run));
      const highest = row.reduce((a, b) => Math.max(a, b), top[query]);
      let sum = mass[query] * exp(top[query] - highest);
      for (const logit of row) sum += weight * exp(logit - highest);
      mass[query] = sum;
      top[query] = highest;
    }
  }
  return mass.map((sum, query) => top[query] + log(Math.max(1e-12, sum)));
}
