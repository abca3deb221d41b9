/**
 * Statistics of a queue in its steady state, for what theory says of it: running moments (Welford), time-weighted means, and
 * confidence intervals by batch means (Law, Simulation Modeling and Analysis, §9.5.3).
 */
import { SimError } from '../sim/error.ts';
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
