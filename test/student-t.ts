/**
 * Quantiles of Student's t, for confidence intervals. The distribution function is the regularised incomplete beta
 * function I_x(df/2, 1/2), x = df / (df + t²), by its continued fraction (Abramowitz & Stegun 26.5.8, 26.7.1).
 */

import { pow } from '../sim/engine/math.ts';
import { SimError } from '../sim/error.ts';

/** Continued fraction of the incomplete beta function, by Lentz's method. */
const betaFraction = (x: number, a: number, b: number): number => {
  const tiny = 1e-300;
  let d = 1 - ((a + b) * x) / (a + 1);
  d = 1 / (d === 0 ? tiny : d);
  let c = 1;
  let value = d;
  for (let m = 1; m <= 400; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 + even * d;
    c = 1 + even / c;
    d = 1 / (d === 0 ? tiny : d);
    value *= d * (c === 0 ? tiny : c);
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 + odd * d;
    c = 1 + odd / c;
    d = 1 / (d === 0 ? tiny : d);
    const step = d * (c === 0 ? tiny : c);
    value *= step;
    if (Math.abs(step - 1) < 1e-15) break;
  }
  return value;
};

/** B(a, 1/2) for a = df/2: from B(1/2, 1/2) = pi or B(1, 1/2) = 2 upwards. */
const betaHalf = (df: number): number => {
  let value = df % 2 === 1 ? Math.PI : 2;
  for (let n = df % 2 === 1 ? 1 : 2; n < df; n += 2) value *= n / (n + 1);
  return value;
};

/** P(|T| > t) for T with `df` degrees of freedom (a positive integer), t >= 0. */
export const studentTwoTail = (t: number, df: number): number => {
  const x = df / (df + t * t);
  const a = df / 2;
  const front = (pow(x, a) * Math.sqrt((t * t) / (df + t * t))) / betaHalf(df);
  if (x < (a + 1) / (a + 2.5)) return (front * betaFraction(x, a, 0.5)) / a;
  return 1 - (front * betaFraction(1 - x, 0.5, a)) / 0.5;
};

/** The t with P(|T| <= t) = confidence: 0 < confidence < 1, df a positive integer. */
export const studentQuantile = (confidence: number, df: number): number => {
  if (!(confidence > 0 && confidence < 1)) {
    throw new SimError('invalid-input', `confidence: expected a ratio between 0 and 1, got ${confidence}`);
  }
  if (!(Number.isInteger(df) && df > 0)) {
    throw new SimError('invalid-input', `degrees of freedom: expected a positive integer, got ${df}`);
  }
  let low = 0;
  let high = 1;
  while (studentTwoTail(high, df) > 1 - confidence) high *= 2;
  for (let i = 0; i < 100 && low < high; i++) {
    const middle = (low + high) / 2;
    if (studentTwoTail(middle, df) > 1 - confidence) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
};
