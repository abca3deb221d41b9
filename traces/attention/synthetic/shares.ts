/**
 * What a sampled head attends to under given strengths of its parts: the share of the heaviest keys, and the mass of
 * all. One shared buffer of logits, so that the solver allocates nothing a trial.
 */
import { exp } from '../../../sim/engine/math.ts';
import { maxSampleKeys, type Sample } from './sample.ts';

/** How strongly a query asks, and how salient tokens are. */
export interface Strengths {
  focus: number;
  salientRatio: number;
  salientNats: number;
}

const logits = new Float64Array(maxSampleKeys);

/** Logits of one query under the given strengths into the shared buffer; returns their maximum. */
function weigh(sample: Sample, query: number, { focus, salientRatio, salientNats }: Strengths): number {
  const { keys } = sample;
  let top = Number.NEGATIVE_INFINITY;
  for (let key = 0, at = query * keys; key < keys; key++, at++) {
    const raised = sample.ranks[key] < salientRatio ? salientNats * sample.nat[at] : 0;
    const logit = focus * (sample.plain[at] + raised);
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

/** Mean share of the mass beyond the sinks that the heaviest `fraction` of the keys hold, by 1/16-nat buckets. */
export function topShare(sample: Sample, strengths: Strengths, fraction: number): number {
  let allKeys = 0;
  for (let key = 0; key < sample.keys; key++) allKeys += sample.weights[key];
  let share = 0;
  for (let query = 0; query < sample.queries; query++) {
    const top = weigh(sample, query, strengths);
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
