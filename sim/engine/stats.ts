/** Statistics of a run: means, and quantiles with a stated definition. */
import { SimError } from '../error.ts';

/** Mean of the first `n` values, summed in index order; 0 when there are none. */
export const mean = (values: ArrayLike<number>, n: number = values.length): number => {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += values[i];
  return n > 0 ? sum / n : 0;
};

/**
 * Quantile of ascending values, 0 <= p <= 1: linear interpolation between order statistics at position p·(n-1)
 * (Hyndman & Fan's type 7, the default of numpy and R). Throws on no values.
 */
export const quantileOfSorted = (sorted: ArrayLike<number>, p: number): number => {
  const n = sorted.length;
  if (n === 0 || !(p >= 0 && p <= 1)) {
    throw new SimError(
      'invalid-input',
      `quantile: expected values and 0 <= p <= 1, got ${n} values and p = ${p}`,
    );
  }
  const position = p * (n - 1);
  const below = Math.floor(position);
  const low = sorted[below];
  if (below === position) return low;
  return low + (position - below) * (sorted[below + 1] - low);
};

/** Quantiles of values in any order; the values are copied, not moved. */
export const quantiles = (values: ArrayLike<number>, ps: readonly number[]): number[] => {
  const sorted = Float64Array.from(values).sort();
  return ps.map((p) => quantileOfSorted(sorted, p));
};

/** The summary that results print. All 0 for no values. */
export interface Summary {
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p95: number;
  readonly p99: number;
}

export const summarize = (values: ArrayLike<number>): Summary => {
  if (values.length === 0) return { mean: 0, p50: 0, p90: 0, p95: 0, p99: 0 };
  const [p50, p90, p95, p99] = quantiles(values, [0.5, 0.9, 0.95, 0.99]);
  return { mean: mean(values), p50, p90, p95, p99 };
};
