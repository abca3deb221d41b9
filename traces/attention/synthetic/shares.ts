/**
 * What a sampled head attends to in the text under given strengths of its parts: the shares of the heaviest keys, and of
 * the late ones. One shared buffer of logits, so that the solver allocates little a trial.
 */
import { exp } from '../../../sim/engine/math.ts';
import { lateRatio } from './regions.ts';
import { maxSampleKeys, type Sample } from './sample.ts';

/** How strongly a query asks, how salient tokens are, and late ones. */
export interface Strengths {
  readonly focus: number;
  readonly salientRatio: number;
  readonly salientNats: number;
  readonly salientSpread: number;
  readonly lateNats: number;
}

const logits = new Float64Array(maxSampleKeys);

/** Logits of one query under the given strengths into the shared buffer; returns their maximum. */
function weigh(sample: Sample, query: number, strengths: Strengths): number {
  const { keys, ranks, places, level, deviation, nat } = sample;
  const { focus, salientRatio, salientNats, salientSpread, lateNats } = strengths;
  let top = Number.NEGATIVE_INFINITY;
  for (let key = 0, at = query * keys; key < keys; key++, at++) {
    const isSalient = ranks[key] < salientRatio;
    const nats = isSalient ? salientNats + lateNats * (places[key] - 0.5) : 0;
    const own = (isSalient ? salientSpread : 1) * deviation[at];
    const logit = focus * (level[at] + own + nats * nat[at]);
    logits[key] = logit;
    if (logit > top) top = logit;
  }
  return top;
}

/** exp by table: logits fall into buckets of 1/16 nat below the maximum, which shares do not feel. */
const buckets = 1024;
const bucketsPerNat = 16;
const bucketKeys = new Float64Array(buckets);
const bucketMass = Float64Array.from({ length: buckets }, (_, i) => exp(-(i + 0.5) / bucketsPerNat));

const fractions = [0.001, 0.01, 0.1] as const;

/**
 * Shares of the text's mass, mean over the queries: of its heaviest 0.1, 1 and 10 % of keys, then of its late part.
 */
export function textShares(sample: Sample, strengths: Strengths): readonly number[] {
  const { keys, places, queries } = sample;
  const shares = [0, 0, 0, 0];
  for (let query = 0; query < queries; query++) {
    const top = weigh(sample, query, strengths);
    bucketKeys.fill(0);
    let [all, late] = [0, 0];
    for (let key = 0; key < keys; key++) {
      const bucket = Math.min(buckets - 1, Math.floor((top - logits[key]) * bucketsPerNat));
      bucketKeys[bucket]++;
      all += bucketMass[bucket];
      if (places[key] >= 1 - lateRatio) late += bucketMass[bucket];
    }
    for (const [i, fraction] of fractions.entries()) shares[i] += heaviest(fraction * keys) / all / queries;
    shares[fractions.length] += late / all / queries;
  }
  return shares;
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
