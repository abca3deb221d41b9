/**
 * What a sampled head attends to in the text under given strengths of its parts: the shares of the heaviest keys, and of
 * the late ones. One shared buffer of logits, so that the solver allocates little a trial.
 */
import { exp } from '../../../sim/engine/math.ts';
import { keptRatio, lateRatio } from './regions.ts';
import { maxSampleKeys, type Sample } from './sample.ts';

/** How strongly a query asks, how salient tokens are, and late ones. */
export interface Strengths {
  readonly focus: number;
  readonly salientRatio: number;
  readonly salientNats: number;
  readonly salientSpread: number;
  readonly lateNats: number;
  readonly roundness: number;
}

const logits = new Float32Array(maxSampleKeys);
/** What each key keeps of its own deviation. */
const kept = new Float32Array(maxSampleKeys);
/** Keys that were the heaviest to a query of the step before: its number in the step, plus one. */
const marks: Uint8Array[] = [];

/** Logits of one query on every `stride`-th key under the given strengths into the shared buffer; returns their maximum. */
function weigh(sample: Sample, query: number, strengths: Strengths, stride: number): number {
  const { keys, ranks, places, level, turning, deviation, nat } = sample;
  const { focus, salientRatio, salientNats, salientSpread, lateNats } = strengths;
  let top = Number.NEGATIVE_INFINITY;
  for (let key = 0, at = query * keys, out = 0; key < keys; key += stride, at += stride, out++) {
    const isSalient = ranks[key] < salientRatio;
    const nats = (isSalient ? salientNats : 0) + lateNats * (places[key] - 0.5);
    const own = kept[key] * deviation[at];
    const still = isSalient ? (1 - salientSpread) * turning[at] : 0;
    logits[out] = focus * (level[at] - still + own + nats * nat[at]);
    if (logits[out] > top) top = logits[out];
  }
  return top;
}

/** What a head attends to in the text, mean over its queries. */
export interface TextShares {
  /** Of the text's mass: the heaviest 0.1, 1 and 10 % of keys, the late part, and what was heaviest some steps before. */
  readonly shares: readonly number[];
  /** Standard deviation of logits, nats. */
  readonly nats: number;
}

/** Over every `stride`-th key of the sample: fewer are faster, but miss some of the few heavy ones. */
export function textShares(sample: Sample, strengths: Strengths, stride: number): TextShares {
  const { keys, places, queries, ranks, lengths } = sample;
  const { salientRatio, salientSpread, roundness } = strengths;
  for (let key = 0; key < keys; key += stride)
    kept[key] = (ranks[key] < salientRatio ? salientSpread : 1) * exp(-roundness * lengths[key]);
  const count = Math.ceil(keys / stride);
  const late = Math.ceil(places.findIndex((place) => place >= 1 - lateRatio) / stride);
  const { perStep } = sample;
  const sums = new Float64Array(fractions.length + 3);
  for (let query = 0; query < queries; query++) {
    const top = weigh(sample, query, strengths, stride);
    const all = addShares(logits, count, top, late, sums);
    marks[query % perStep] ??= new Uint8Array(maxSampleKeys);
    const marked = marks[query % perStep];
    const isSecond = (Math.floor(query / perStep) & 1) === 1;
    if (isSecond) sums[fractions.length + 2] += (2 * markedMass(logits, count, top, marked)) / all;
    else markHeaviest(logits, count, top, marked);
  }
  const [nats, ...shares] = sums.map((sum) => sum / queries);
  return { shares, nats };
}

/** exp by table: logits fall into buckets of 1/16 nat below the maximum, which shares do not feel. */
const buckets = 1024;
const bucketsPerNat = 16;
const bucketKeys = new Float64Array(buckets);
const bucketMass = Float64Array.from({ length: buckets }, (_, i) => exp(-(i + 0.5) / bucketsPerNat));

const fractions = [0.001, 0.01, 0.1] as const;

/** Adds the deviation and the shares of one query; `top` is its highest logit, late keys begin with number `late`. Returns all mass. */
function addShares(row: Float32Array, keys: number, top: number, late: number, sums: Float64Array): number {
  bucketKeys.fill(0);
  let [all, lateMass, sum, squares] = [0, 0, 0, 0];
  for (let key = 0; key < keys; key++) {
    const below = top - row[key];
    const bucket = Math.min(buckets - 1, Math.floor(below * bucketsPerNat));
    bucketKeys[bucket]++;
    sum += below;
    squares += below * below;
    all += bucketMass[bucket];
    if (key >= late) lateMass += bucketMass[bucket];
  }
  const average = sum / keys;
  sums[0] += Math.sqrt(Math.max(0, squares / keys - average * average));
  for (const [i, fraction] of fractions.entries()) sums[i + 1] += heaviest(fraction * keys) / all;
  sums[fractions.length + 1] += lateMass / all;
  return all;
}

/** Marks the heaviest keys of the row whose counts lie in the shared buckets. */
function markHeaviest(row: Float32Array, keys: number, top: number, marked: Uint8Array): void {
  let [left, last] = [keptRatio * keys, 0];
  while (left > bucketKeys[last] && last < buckets - 1) left -= bucketKeys[last++];
  const least = top - (last + 1) / bucketsPerNat;
  for (let key = 0; key < keys; key++) marked[key] = row[key] > least ? 1 : 0;
}

function markedMass(row: Float32Array, keys: number, top: number, marked: Uint8Array): number {
  let mass = 0;
  for (let key = 0; key < keys; key++)
    if (marked[key] === 1)
      mass += bucketMass[Math.min(buckets - 1, Math.floor((top - row[key]) * bucketsPerNat))];
  return mass;
}

/** Mass of the heaviest `count` keys in the shared buckets. */
function heaviest(count: number): number {
  let [left, mass] = [count, 0];
  for (let bucket = 0; bucket < buckets && left > 0; bucket++) {
    const taken = Math.min(bucketKeys[bucket], left);
    mass += taken * bucketMass[bucket];
    left -= taken;
  }
  return mass;
}
