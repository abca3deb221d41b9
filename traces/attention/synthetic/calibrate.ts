/**
 * Solves for how strongly the queries of a head weigh content, salience, position and sink, so that the head's
 * attention has the wanted shares: mass in the top 1 % and 10 % of the keys, in the last 256 tokens, on the sinks.
 * Works on a strided sample of keys with noise of its own; logits are linear in the weights, so only softmax repeats.
 */
import { exp, log, log2 } from '../../../sim/engine/math.ts';
import { createRandom } from '../../../sim/engine/random.ts';
import type { HeadTarget } from '../presets/preset.ts';
import {
  constantQuery,
  contentQueries,
  type HeadScales,
  latchedPassage,
  type QuerySource,
  salientQuery,
} from './queries.ts';
import { rotateRows } from './rope.ts';
import { dressKeys, plantSinks, type RowSource, sinkQueryScale, sinkTokens } from './rows.ts';

const farSamples = 2048;
const nearTokens = 256;
const latchedTokens = 64;
const sampledSteps = 4;
const sampledHeads = 3;

/** Logits of sampled queries (rows) over sampled keys (columns), by part; each key stands for `weights` keys. */
interface Sample {
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

interface Weights {
  content: number;
  salient: number;
  kernel: number;
}

/** Weights within which a head is sought: nats of standard deviation, of a salient token, of the kernel's peak. */
const limits = { content: [0.05, 6], salient: [0, 12], kernel: [0, 20] } as const;

export function calibrateHead(source: QuerySource, target: HeadTarget): HeadScales {
  const queries = sampleQueries(source);
  const sample = sampleLogits(source, queries);
  const scales: Weights = { content: 1.5, salient: 0, kernel: 4 };
  // Too few keys have no top 1 %: such a toy keeps the starting weights.
  if (sample.keys >= 64) {
    const local = Math.min(target.localRatio, 0.8 * heaviestShare(target, sample.near / source.promptTokens));
    // The kernel's side lobes reach far keys; they must leave concentration to the content.
    const flat = { content: limits.content[0], salient: 0 };
    const most = solve(
      limits.kernel,
      (x) => topShare(sample, { ...flat, kernel: x }, 0.1) - 0.8 * target.massTop10,
    );
    for (let round = 0; round < 3; round++) {
      scales.kernel = solve([0, most], (x) => nearShare(sample, { ...scales, kernel: x }) - local);
      scales.content = solve(
        limits.content,
        (x) => topShare(sample, { ...scales, content: x }, 0.1) - target.massTop10,
      );
      scales.salient = solve(
        limits.salient,
        (x) => topShare(sample, { ...scales, salient: x }, 0.01) - target.massTop1,
      );
    }
  }
  return { ...scales, sinkKeys: solveSinks(source, sample, queries, scales, target.sinkRatio) };
}

/** Most that `fraction` of the keys can hold under the targets: a line in log-fraction through 1 % and 10 %. */
function heaviestShare({ massTop1, massTop10 }: HeadTarget, fraction: number): number {
  const decades = log2(fraction * 100) / log2(10);
  return Math.max(massTop1 / 4, Math.min(massTop10, massTop1 + (massTop10 - massTop1) * decades));
}

/** Root of an increasing function by bisection; the nearer end where there is none. 14 halvings: 1e-3 of a nat. */
function solve([low, high]: readonly [number, number], excess: (x: number) => number): number {
  let [a, b] = [low, high];
  for (let i = 0; i < 14; i++) {
    const middle = (a + b) / 2;
    if (excess(middle) > 0) b = middle;
    else a = middle;
  }
  return (a + b) / 2;
}

/** Steps in the middle of equal parts of the run. */
function sampledStepsOf(steps: number): readonly number[] {
  const count = Math.min(sampledSteps, steps);
  return Array.from({ length: count }, (_, i) => Math.floor(((i + 0.5) * steps) / count));
}

/** Rotated content queries of some steps and heads, then the three parts that all of them share. */
function sampleQueries(source: QuerySource): Float32Array {
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

function sampleLogits(source: QuerySource, queries: Float32Array): Sample {
  const { rows } = source;
  const { headDim } = rows;
  const runs = sampleRuns(source);
  const count = runs.reduce((sum, run) => sum + run.count, 0);
  const keys = new Float32Array(count * headDim);
  const weights = new Float64Array(count);
  createRandom(rows.seed, `calibrate.${rows.layer}.${rows.kvHead}`).fillNormal(keys);
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

function logitsOf(keys: Float32Array, query: Float32Array): Float64Array {
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

const logits = new Float64Array(farSamples * 2 + nearTokens + sampledSteps * latchedTokens);

/** Logits of one query under the given weights into the shared buffer; returns their maximum. */
function weigh(sample: Sample, query: number, weights: Weights): number {
  const { keys, content, salient, kernel, constant } = sample;
  let top = Number.NEGATIVE_INFINITY;
  for (let key = 0, at = query * keys; key < keys; key++, at++) {
    const shared = weights.salient * salient[key] + weights.kernel * kernel[key] + constant[key];
    const logit = weights.content * content[at] + shared;
    logits[key] = logit;
    if (logit > top) top = logit;
  }
  return top;
}

/** Mean share of the last tokens in the mass beyond the sinks. */
function nearShare(sample: Sample, weights: Weights): number {
  const { keys, near } = sample;
  let share = 0;
  for (let query = 0; query < sample.queries; query++) {
    const top = weigh(sample, query, weights);
    let all = 0;
    let last = 0;
    for (let key = 0; key < keys; key++) {
      const mass = sample.weights[key] * exp(logits[key] - top);
      all += mass;
      if (key >= keys - near) last += mass;
    }
    share += last / all;
  }
  return share / sample.queries;
}

const buckets = 1024;
const bucketsPerNat = 16;
const bucketKeys = new Float64Array(buckets);
const bucketMass = Float64Array.from({ length: buckets }, (_, i) => exp(-(i + 0.5) / bucketsPerNat));

/** Mean share of the mass beyond the sinks that the heaviest `fraction` of the keys hold, by 1/16-nat buckets. */
function topShare(sample: Sample, weights: Weights, fraction: number): number {
  let allKeys = 0;
  for (let key = 0; key < sample.keys; key++) allKeys += sample.weights[key];
  let share = 0;
  for (let query = 0; query < sample.queries; query++) {
    const top = weigh(sample, query, weights);
    bucketKeys.fill(0);
    for (let key = 0; key < sample.keys; key++) {
      const bucket = Math.floor((top - logits[key]) * bucketsPerNat);
      bucketKeys[bucket < buckets ? bucket : buckets - 1] += sample.weights[key];
    }
    let left = allKeys * fraction;
    let heavy = 0;
    let all = 0;
    for (let bucket = 0; bucket < buckets; bucket++) {
      const count = bucketKeys[bucket];
      const mass = bucketMass[bucket];
      all += count * mass;
      const taken = Math.min(count, left);
      heavy += taken * mass;
      left -= taken;
    }
    share += heavy / all;
  }
  return share / sample.queries;
}

/** How much of the sinks' mass each of the first four tokens holds. */
const sinkSplit = [0.85, 0.05, 0.05, 0.05];

/** Sink key components for which the first tokens hold `ratio` of all mass, averaged over the sampled queries. */
function solveSinks(
  source: QuerySource,
  sample: Sample,
  queries: Float32Array,
  weights: Weights,
  ratio: number,
): Float64Array {
  const { headDim } = source.rows;
  const bare = new Float32Array(sinkTokens * headDim);
  dressKeys(source.rows, bare, 0, 1);
  plantSinks(source.rows, new Float64Array(sinkTokens), bare);
  rotateRows(bare, sinkTokens, source.rows.frequencies, 0, 1);
  const shared = (part: number): Float64Array =>
    logitsOf(
      bare,
      queries.subarray((sample.queries + part) * headDim, (sample.queries + part + 1) * headDim),
    );
  const [salient, kernel, constant] = [shared(0), shared(1), shared(2)];
  // The query has sinkQueryScale · sqrt(headDim) along the axis, so this much key makes one nat.
  const perNat = 1 / sinkQueryScale;
  const restLog: number[] = [];
  for (let query = 0; query < sample.queries; query++) {
    const top = weigh(sample, query, weights);
    let all = 0;
    for (let key = 0; key < sample.keys; key++) all += sample.weights[key] * exp(logits[key] - top);
    restLog.push(top + log(all));
  }
  const share = (nats: number): number => {
    const mass = exp(nats);
    return restLog.reduce((sum, rest) => sum + mass / (mass + exp(rest)), 0) / restLog.length;
  };
  const nats = solve([-40, 80], (x) => share(x) - ratio);
  return Float64Array.from(sinkSplit, (part, token) => {
    const without = weights.salient * salient[token] + weights.kernel * kernel[token] + constant[token];
    return (nats + log(part) - without) * perNat;
  });
}
