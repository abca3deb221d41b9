/**
 * Brings a head to the attention that is wanted of it: how concentrated the text's mass is and how late it lies, by the
 * strength of its queries and by salient tokens, then its own token's share, then the division among regions.
 */
import { exp, log } from '../../../sim/engine/math.ts';
import type { Concentration, HeadPlan } from '../presets/preset.ts';
import { balanceRegions } from './balance.ts';
import { solveBounded } from './least-squares.ts';
import { solveNewest } from './newest.ts';
import type { HeadScales, RowSource } from './rows.ts';
import { type Sample, sampleLogits } from './sample.ts';
import { type Strengths, type TextShares, textShares } from './shares.ts';

/** A shorter prompt has no top 1 %, and no text: such a toy keeps the profile as it is. */
const leastTokens = 256;

/** A head as its profile has it, without salient tokens. */
export const plain: HeadScales = {
  focus: 1,
  salientRatio: 0,
  salientNats: 0,
  salientSpread: 1,
  lateNats: 0,
  roundness: 0,
  selfShift: 0,
  sinkNats: 0,
  evidenceNats: 0,
  questionNats: 0,
  answerNats: 0,
};

export function calibrateHead(source: RowSource, steps: number, { profile, attended }: HeadPlan): HeadScales {
  const { salientRatio, salientNats } = profile;
  if (source.promptTokens < leastTokens) return { ...plain, salientRatio, salientNats };
  const concentrated = {
    ...plain,
    ...concentrate(sampleLogits(source, steps), attended, salientRatio),
  };
  return balanceRegions(source, solveNewest(source, concentrated, attended.newest), attended);
}

/** Shares of salient tokens that are tried, beside the profile's own. */
const ratios = [0.02, 0.05];
/** Distance in log odds of all shares together that counts as none. */
const negligible = 0.2;

/**
 * Unknowns: logarithm of the queries' strength, nats of salience over 4, spread of salient keys, nats of lateness over 4,
 * roundness of keys.
 */
const natsUnit = 4;
const bounds = [
  [log(0.5), log(3)],
  [0, 16 / natsUnit],
  [0, 1],
  [-16 / natsUnit, 16 / natsUnit],
  [-1, 1.5],
] as const;
/** Two beginnings: the first changes nothing, and is held to a little; the other has much salience. */
const unchanged = [0, 0.3, 1, 0, 0] as const;
const starts = [unchanged, [-0.3, 2, 0.4, 0, 0]] as const;
/** Log odds of a share that a change of one in an unknown has to be worth: shares leave some combinations open. */
const reluctance = 0.2;
/** Log odds of a share that logits an e-fold too wide are worth, and a width that is as good as none. */
const widthWeight = 5;
const leastNats = 1e-3;

const logOdds = (share: number): number => {
  const x = Math.min(0.999, Math.max(0.001, share));
  return log(x / (1 - x));
};

/** Deviations from what is wanted: of each share in log odds, and of logits' width. */
const missOf = ({ shares, nats }: TextShares, wanted: Concentration): readonly number[] => {
  const { textTop01, textTop1, textTop10, textLate, textKept, textNats } = wanted;
  const goals = [textTop01, textTop1, textTop10, textLate, textKept];
  const width = log(Math.max(leastNats, nats)) - log(Math.max(leastNats, textNats));
  return [...shares.map((share, i) => logOdds(share) - logOdds(goals[i])), widthWeight * width];
};

/** One way to make salience: share of salient tokens, and where the search for the rest begins. */
interface Beginning {
  readonly ratio: number;
  readonly x: readonly number[];
}

/** Keys that strengths are sought on, and how often they are sought again for what all keys of the sample show. */
const soughtKeys = 1536;
const corrections = 2;

/** The strengths that come nearest to what is wanted of the text. */
function concentrate(sample: Sample, wanted: Concentration, salientRatio: number): Strengths {
  const ratioChoices = salientRatio > 0 ? [salientRatio, ...ratios] : ratios;
  const beginnings = ratioChoices.flatMap((ratio) => starts.map((x): Beginning => ({ ratio, x })));
  const stride = Math.max(1, Math.floor(sample.keys / soughtKeys));
  const missAt = (at: Beginning, every: number): readonly number[] =>
    missOf(textShares(sample, strengthsOf(at), every), wanted);
  let offset: readonly number[] = [0, 0, 0, 0, 0, 0];
  let best = solveStrengths((at) => missAt(at, stride), beginnings);
  for (let i = 0; i < corrections && stride > 1; i++) {
    const few = missAt(best, stride);
    offset = missAt(best, 1).map((miss, at) => miss - few[at]);
    best = solveStrengths((at) => missAt(at, stride).map((miss, j) => miss + offset[j]), [best]);
  }
  return strengthsOf(best);
}

const strengthsOf = ({ ratio, x: [focus, nats, spread, late, roundness] }: Beginning): Strengths => ({
  focus: exp(focus),
  salientRatio: ratio,
  salientNats: nats * natsUnit,
  salientSpread: spread,
  lateNats: late * natsUnit,
  roundness,
});

/** Where the search ends that misses least, or the first that is near enough. */
function solveStrengths(
  missAt: (at: Beginning) => readonly number[],
  beginnings: readonly Beginning[],
): Beginning {
  let [best, least] = [beginnings[0], Number.POSITIVE_INFINITY];
  for (const { ratio, x: start } of beginnings) {
    const missed = (x: readonly number[]): readonly number[] => missAt({ ratio, x });
    const changed = (x: readonly number[]): readonly number[] =>
      x.map((value, i) => reluctance * (value - unchanged[i]));
    const x = solveBounded((tried) => [...missed(tried), ...changed(tried)], { start, bounds });
    const miss = Math.sqrt(missed(x).reduce((sum, distance) => sum + distance * distance, 0));
    if (miss < least) [best, least] = [{ ratio, x }, miss];
    if (least < negligible) return best;
  }
  return best;
}
