/**
 * Brings a head that has a target to it by three strengths: of its queries (mass in the top 10 % of the keys), of its
 * salient tokens (top 1 %) and of its sink. A head without a target is taken as it was measured.
 */
import { exp } from '../../../sim/engine/math.ts';
import type { HeadPlan, HeadTarget } from '../presets/preset.ts';
import type { HeadScales, RowSource } from './rows.ts';
import { type Sample, sampleLogits } from './sample.ts';
import { logMass, type Strengths, topShare } from './shares.ts';

/** Ranges that strengths are sought in. */
const limits = { focus: [0.02, 3], salientNats: [0, 16], sinkNats: [-60, 60] } as const;
/** Too few keys have no top 1 %: such a toy keeps the profile as it is. */
const leastKeys = 64;

export function calibrateHead(rows: RowSource, steps: number, { profile, target }: HeadPlan): HeadScales {
  const plain = { focus: 1, salientNats: profile.salientNats, sinkNats: 0 };
  if (target === null) return plain;
  const sample = sampleLogits(rows, steps);
  if (sample.keys < leastKeys) return plain;
  const strengths = solveStrengths(sample, target);
  return { ...strengths, sinkNats: solveSink(sample, strengths, target.sinkRatio) };
}

/** In turn, queries keeping most of their strength when salience comes in. */
function solveStrengths(sample: Sample, target: HeadTarget): Strengths {
  const strengths: Strengths = { focus: 1, salientNats: 0 };
  const top10 = (focus: number): number => topShare(sample, { ...strengths, focus }, 0.1) - target.massTop10;
  strengths.focus = solve(limits.focus, top10);
  const least = 0.7 * strengths.focus;
  for (let round = 0; round < 2; round++) {
    strengths.salientNats = solve(
      limits.salientNats,
      (salientNats) => topShare(sample, { ...strengths, salientNats }, 0.01) - target.massTop1,
    );
    strengths.focus = solve([least, limits.focus[1]], top10);
  }
  return strengths;
}

/** Nats for which the sink holds `ratio` of all mass, averaged over the sampled queries. */
function solveSink(sample: Sample, strengths: Strengths, ratio: number): number {
  const rest = Float64Array.from({ length: sample.queries }, (_, query) => logMass(sample, query, strengths));
  return solve(limits.sinkNats, (nats) => {
    let sum = 0;
    for (let query = 0; query < rest.length; query++) {
      const logit = strengths.focus * (sample.sink[query] + nats * sample.sinkNat[query]);
      sum += 1 / (1 + exp(rest[query] - logit));
    }
    return sum / rest.length - ratio;
  });
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
