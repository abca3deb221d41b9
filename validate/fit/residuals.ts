/**
 * How far predictions are from measurements: relative errors as the field reports them, Kendall's tau-b of a ranking,
 * sign accuracy of pairs, and the noise floor of the measurements themselves.
 */
import { quantileOfSorted } from '../../sim/engine/stats.ts';

export interface Residuals {
  readonly n: number;
  /** Mean, median and 95th percentile of |predicted / measured - 1|. */
  readonly mape: number;
  readonly medianApe: number;
  readonly p95Ape: number;
  /** Mean of predicted / measured - 1. */
  readonly bias: number;
}

export interface Pair {
  readonly predicted: number;
  readonly measured: number;
}

/** Residuals of pairs; NaN everywhere when there are none. */
export const residualsOf = (pairs: readonly Pair[]): Residuals => {
  if (pairs.length === 0)
    return { n: 0, mape: Number.NaN, medianApe: Number.NaN, p95Ape: Number.NaN, bias: Number.NaN };
  const errors = pairs.map(({ predicted, measured }) => predicted / measured - 1);
  const sizes = Float64Array.from(errors, Math.abs).sort();
  const mean = (values: ArrayLike<number>): number =>
    Array.from(values).reduce((a, b) => a + b, 0) / values.length;
  return {
    n: pairs.length,
    mape: mean(sizes),
    medianApe: quantileOfSorted(sizes, 0.5),
    p95Ape: quantileOfSorted(sizes, 0.95),
    bias: mean(errors),
  };
};

/** Kendall's tau-b between predicted and measured values (Kendall 1945): 1 = same order; NaN with fewer than two. */
export const kendallTau = (pairs: readonly Pair[]): number => {
  let agreement = 0;
  let untiedPredicted = 0;
  let untiedMeasured = 0;
  for (let i = 0; i < pairs.length; i++) {
    for (let j = 0; j < i; j++) {
      const predicted = Math.sign(pairs[i].predicted - pairs[j].predicted);
      const measured = Math.sign(pairs[i].measured - pairs[j].measured);
      agreement += predicted * measured;
      untiedPredicted += Math.abs(predicted);
      untiedMeasured += Math.abs(measured);
    }
  }
  return agreement / Math.sqrt(untiedPredicted * untiedMeasured);
};

/** Share of pairs that differ by more than `gapRatio` when measured whose order is predicted right; NaN without any. */
export const signAccuracy = (pairs: readonly Pair[], gapRatio: number): number => {
  let right = 0;
  let clear = 0;
  for (let i = 0; i < pairs.length; i++) {
    for (let j = 0; j < i; j++) {
      const ratio = pairs[i].measured / pairs[j].measured;
      if (Math.max(ratio, 1 / ratio) < 1 + gapRatio) continue;
      clear++;
      if (ratio > 1 === pairs[i].predicted > pairs[j].predicted) right++;
    }
  }
  return right / clear;
};
