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
import { type Strengths, textShares } from './shares.ts';

/** A shorter prompt has no top 1 %, and no text: such a toy keeps the profile as it is. */
const leastTokens = 256;

export function calibrateHead(source: RowSource, steps: number, { profile, attended }: HeadPlan): HeadScales {
  const { salientRatio, salientNats } = profile;
  const plain: HeadScales = {
    focus: 1,
    salientRatio,
    salientNats,
    salientSpread: 1,
    lateNats: 0,
    selfShift: 0,
    sinkNats: 0,
    evidenceNats: 0,
    questionNats: 0,
    answerNats: 0,
  };
  if (source.promptTokens < leastTokens) return plain;
  const concentrated = { ...plain, ...solveStrengths(sampleLogits(source, steps), attended, salientRatio) };
  return balanceRegions(source, solveNewest(source, concentrated, attended.newest), attended);
}

/** Shares of salient tokens that are tried, beside the profile's own. */
const ratios = [0.005, 0.02, 0.05];
/** Distance in log odds of all shares together that counts as none. */
const negligible = 0.1;

/** Unknowns: logarithm of the queries' strength, nats of salience and of lateness over 4, spread of salient keys. */
const natsUnit = 4;
const bounds = [
  [log(0.5), log(3)],
  [0, 16 / natsUnit],
  [0, 1],
  [-6 / natsUnit, 6 / natsUnit],
] as const;
/** Two beginnings: the first changes nothing, and is held to a little; the other has much salience. */
const unchanged = [0, 0.3, 1, 0] as const;
const starts = [unchanged, [-0.3, 2, 0.4, 0]] as const;
/** Log odds of a share that a change of one in an unknown has to be worth: shares leave some combinations open. */
const reluctance = 0.2;

const logOdds = (share: number): number => {
  const x = Math.min(0.999, Math.max(0.001, share));
  return log(x / (1 - x));
};

/** The strengths that come nearest to the wanted shares, and the first that are near enough. */
function solveStrengths(sample: Sample, wanted: Concentration, salientRatio: number): Strengths {
  const { textTop01, textTop1, textTop10, textLate } = wanted;
  const goals = [textTop01, textTop1, textTop10, textLate].map(logOdds);
  let [best, least]: [Strengths | null, number] = [null, Number.POSITIVE_INFINITY];
  for (const ratio of salientRatio > 0 ? [salientRatio, ...ratios] : ratios) {
    const strengthsOf = ([focus, nats, spread, late]: readonly number[]): Strengths => ({
      focus: exp(focus),
      salientRatio: ratio,
      salientNats: nats * natsUnit,
      salientSpread: spread,
      lateNats: late * natsUnit,
    });
    for (const start of starts) {
      const missed = (x: readonly number[]): readonly number[] =>
        textShares(sample, strengthsOf(x)).map((share, i) => logOdds(share) - goals[i]);
      const changed = (x: readonly number[]): readonly number[] =>
        x.map((value, i) => reluctance * (value - unchanged[i]));
      const x = solveBounded((tried) => [...missed(tried), ...changed(tried)], { start, bounds });
      const miss = Math.sqrt(missed(x).reduce((sum, distance) => sum + distance * distance, 0));
      if (miss < least) [best, least] = [strengthsOf(x), miss];
      if (best !== null && least < negligible) return best;
    }
  }
  if (best === null) throw new Error('no share of salient tokens was tried');
  return best;
}
