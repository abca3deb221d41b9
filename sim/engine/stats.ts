/**
 * Statistics of a run: running moments (Welford), time-weighted means, quantiles with a stated definition, and
 * confidence intervals of steady-state means by batch means (Law, Simulation Modeling and Analysis, §9.5.3).
 */
import { SimError } from '../error.ts';
import { studentQuantile } from './student-t.ts';

/** Count, mean and variance of a stream of values, in one pass without cancellation. */
export class Moments {
  count = 0;
  mean = 0;
  min = Number.POSITIVE_INFINITY;
  max = Number.NEGATIVE_INFINITY;
  #squares = 0;

  add(value: number): void {
    this.count++;
    const distance = value - this.mean;
    this.mean += distance / this.count;
    this.#squares += distance * (value - this.mean);
    if (value < this.min) this.min = value;
    if (value > this.max) this.max = value;
  }

  /** Unbiased sample variance; 0 below two values. */
  get variance(): number {
    return this.count > 1 ? this.#squares / (this.count - 1) : 0;
  }

  get deviation(): number {
    return Math.sqrt(this.variance);
  }
}

/** Mean over time of a value that changes in steps (a queue length, an occupancy). Starts with `value` at `timeNs`. */
export class TimeWeighted {
  max: number;
  #value: number;
  #sinceNs: number;
  #fromNs: number;
  #integral = 0;

  constructor(timeNs = 0, value = 0) {
    this.#value = value;
    this.#sinceNs = timeNs;
    this.#fromNs = timeNs;
    this.max = value;
  }

  get value(): number {
    return this.#value;
  }

  /** The value holds from `timeNs` on; times must not decrease. */
  set(timeNs: number, value: number): void {
    if (timeNs < this.#sinceNs) {
      throw new SimError(
        'invariant-broken',
        `time-weighted value set at ${timeNs} ns after ${this.#sinceNs} ns`,
      );
    }
    this.#integral += this.#value * (timeNs - this.#sinceNs);
    this.#sinceNs = timeNs;
    this.#value = value;
    if (value > this.max) this.max = value;
  }

  /** Integral of value over time up to `timeNs`. */
  integral(timeNs: number): number {
    return this.#integral + this.#value * (timeNs - this.#sinceNs);
  }

  /** Mean since the start; the present value when no time has passed. */
  mean(timeNs: number): number {
    return timeNs > this.#fromNs ? this.integral(timeNs) / (timeNs - this.#fromNs) : this.#value;
  }
}

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

export interface Interval {
  readonly mean: number;
  /** Half the width of the confidence interval; the interval is mean ± halfWidth. */
  readonly halfWidth: number;
}

/**
 * Confidence interval of the mean of a correlated, stationary series: the values (after any warm-up was cut) are
 * split into `batches` runs of equal length, whose means are nearly independent. A rest that fills no batch is left
 * out at the front. Throws on fewer values than batches.
 */
export const batchMeans = (values: ArrayLike<number>, batches = 32, confidence = 0.99): Interval => {
  const length = Math.floor(values.length / batches);
  if (!(batches >= 2 && length >= 1)) {
    throw new SimError(
      'invalid-input',
      `batch means: expected at least ${batches} values, got ${values.length}`,
    );
  }
  const moments = new Moments();
  let at = values.length - length * batches;
  for (let batch = 0; batch < batches; batch++) {
    let sum = 0;
    for (const end = at + length; at < end; at++) sum += values[at];
    moments.add(sum / length);
  }
  const halfWidth = studentQuantile(confidence, batches - 1) * Math.sqrt(moments.variance / batches);
  return { mean: moments.mean, halfWidth };
};
