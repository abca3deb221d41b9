/**
 * Brings a head to its published concentration, where it has one, by the strength of its queries (mass in the top 10 %
 * of the keys) and of its salient tokens (top 1 %), and divides its mass among the regions of the prompt as measured.
 */
import type { HeadPlan, HeadTarget } from '../presets/preset.ts';
import { balanceRegions } from './balance.ts';
import type { HeadScales, RowSource } from './rows.ts';
import { type Sample, sampleLogits } from './sample.ts';
import { type Strengths, topShare } from './shares.ts';

/** Ranges that strengths are sought in. */
const limits = { focus: [0.5, 3], salientNats: [0, 16] } as const;
/** A shorter prompt has no top 1 %, and no text: such a toy keeps the profile as it is. */
const leastTokens = 256;

export function calibrateHead(rows: RowSource, steps: number, plan: HeadPlan): HeadScales {
  const { profile, target, regions } = plan;
  const { salientRatio, salientNats } = profile;
  const plain = { focus: 1, salientRatio, salientNats, sinkNats: 0, questionNats: 0, answerNats: 0 };
  if (rows.promptTokens < leastTokens) return plain;
  const strengths = target === null ? plain : solveStrengths(sampleLogits(rows, steps), target, salientRatio);
  return balanceRegions(rows, { ...plain, ...strengths }, regions);
}

/** Shares of salient tokens that are tried. */
const ratios = [0.0005, 0.002, 0.005, 0.02, 0.05];
/** A miss that counts as none. */
const negligible = 0.02;

/**
 * Of the shares of salient tokens the one under which the heaviest tokens hold what they should: the very heaviest where
 * that is known, else it is the profile's own share unless another comes nearer.
 */
function solveStrengths(sample: Sample, target: HeadTarget, salientRatio: number): Strengths {
  const { massTop01, massTop1 } = target;
  const [fraction, wanted] = massTop01 === null ? [0.01, massTop1] : [0.001, massTop01];
  let best = solveAt(sample, target, salientRatio);
  let least = Math.abs(topShare(sample, best, fraction) - wanted);
  for (const ratio of ratios) {
    if (least < negligible) break;
    const tried = solveAt(sample, target, ratio);
    const miss = Math.abs(topShare(sample, tried, fraction) - wanted);
    if (miss < least) [best, least] = [tried, miss];
  }
  return best;
}

/** In turn, queries keeping most of their strength when salience comes in. */
function solveAt(sample: Sample, target: HeadTarget, salientRatio: number): Strengths {
  const strengths: Strengths = { focus: 1, salientRatio, salientNats: 0 };
  const top10 = (focus: number): number => topShare(sample, { ...strengths, focus }, 0.1) - target.massTop10;
  const [low, high] = limits.focus;
  strengths.focus = solve([low, high], top10);
  const least = Math.max(low, 0.7 * strengths.focus);
  for (let round = 0; round < 2; round++) {
    strengths.salientNats = solve(
      limits.salientNats,
      (nats) => topShare(sample, { ...strengths, salientNats: nats }, 0.01) - target.massTop1,
    );
    strengths.focus = solve([least, high], top10);
  }
  return strengths;
}

/** Root of an increasing function by bisection; the nearer end where there is none. 11 halvings: a hundredth of a nat. */
function solve([low, high]: readonly [number, number], excess: (x: number) => number): number {
  let [a, b] = [low, high];
  for (let i = 0; i < 11; i++) {
    const middle = (a + b) / 2;
    if (excess(middle) > 0) b = middle;
    else a = middle;
  }
  return (a + b) / 2;
}
