/** Statistics of predictions against measurements: errors, ranking, and what part of them is noise. */
import { mean, quantiles } from '../../sim/engine/stats.ts';

export interface Pair {
  /** Cases are ranked within their group: same model, context, batch, budget. */
  readonly group: string;
  readonly predictedNs: number;
  readonly measuredNs: number;
  /** Medians of the rounds of measuring, ns. */
  readonly roundNs: readonly number[];
  readonly predictedBytes: number;
  readonly measuredBytes: number;
}

export interface ValidationSummary {
  readonly n: number;
  readonly mape: number;
  readonly medianApe: number;
  readonly p95Ape: number;
  /** Mean of (predicted − measured) / measured. */
  readonly bias: number;
  /** Mean over groups of the rank correlation of predicted and measured times; null without two cases in a group. */
  readonly kendallTau: number | null;
  readonly bytesMape: number;
  /** Mean absolute error of one round as a prediction of the next: what no model can beat; null with one round. */
  readonly noiseApe: number | null;
  /** Share of pairs within groups, apart by more than the noise, whose order is predicted; null without such pairs. */
  readonly signAccuracy: number | null;
}

const ratioError = (predicted: number, measured: number): number => (predicted - measured) / measured;

const meanOf = (values: readonly number[]): number => mean(Float64Array.from(values));

const groupsOf = (pairs: readonly Pair[]): readonly (readonly Pair[])[] => {
  const groups = new Map<string, Pair[]>();
  for (const pair of pairs) groups.set(pair.group, [...(groups.get(pair.group) ?? []), pair]);
  return [...groups.values()].filter((group) => group.length > 1);
};

/** Kendall's tau-b, which counts ties in neither order. */
export const kendallTau = (a: readonly number[], b: readonly number[]): number => {
  let agreeing = 0;
  let inA = 0;
  let inB = 0;
  for (let i = 0; i < a.length; i++) {
    for (let j = 0; j < i; j++) {
      const signA = Math.sign(a[i] - a[j]);
      const signB = Math.sign(b[i] - b[j]);
      agreeing += signA * signB;
      inA += signA * signA;
      inB += signB * signB;
    }
  }
  return inA === 0 || inB === 0 ? 0 : agreeing / Math.sqrt(inA * inB);
};

/** Errors of each round as a prediction of the next. */
const noiseErrors = (pairs: readonly Pair[]): readonly number[] =>
  pairs.flatMap(({ roundNs }) => roundNs.slice(1).map((ns, at) => Math.abs(ratioError(roundNs[at], ns))));

/** Pairs of one group whose measured times differ by more than `noise`, as +1 (right order) or 0. */
const judgedPairs = (group: readonly Pair[], noise: number): readonly number[] =>
  group.flatMap((one, at) =>
    group
      .slice(0, at)
      .filter(
        (other) =>
          Math.abs(one.measuredNs - other.measuredNs) >
          2 * noise * Math.max(one.measuredNs, other.measuredNs),
      )
      .map((other) =>
        Math.sign(one.measuredNs - other.measuredNs) === Math.sign(one.predictedNs - other.predictedNs)
          ? 1
          : 0,
      ),
  );

/** Throws RangeError without pairs. */
export const summariseValidation = (pairs: readonly Pair[]): ValidationSummary => {
  if (pairs.length === 0) throw new RangeError('no case to summarise');
  const errors = pairs.map(({ predictedNs, measuredNs }) => ratioError(predictedNs, measuredNs));
  const apes = Float64Array.from(errors, Math.abs);
  const [medianApe, p95Ape] = quantiles(apes, [0.5, 0.95]);
  const noise = noiseErrors(pairs);
  const noiseApe = noise.length === 0 ? null : meanOf(noise);
  const groups = groupsOf(pairs);
  const judged = groups.flatMap((group) => judgedPairs(group, noiseApe ?? 0));
  return {
    n: pairs.length,
    mape: meanOf([...apes]),
    medianApe,
    p95Ape,
    bias: meanOf(errors),
    kendallTau:
      groups.length === 0
        ? null
        : meanOf(
            groups.map((group) =>
              kendallTau(
                group.map(({ predictedNs }) => predictedNs),
                group.map(({ measuredNs }) => measuredNs),
              ),
            ),
          ),
    bytesMape: meanOf(
      pairs.map(({ predictedBytes, measuredBytes }) =>
        measuredBytes === 0 ? 0 : Math.abs(ratioError(predictedBytes, measuredBytes)),
      ),
    ),
    noiseApe,
    signAccuracy: judged.length === 0 ? null : meanOf(judged),
  };
};
