/**
 * Robust least squares: Levenberg-Marquardt (Marquardt 1963) on residuals whose large ones are weighted down by Huber's
 * rule (Huber 1964), from several starts, because laws with a maximum in them have flat regions. Deterministic.
 */
import { createRandom } from '../../sim/engine/random.ts';
import { quantileOfSorted } from '../../sim/engine/stats.ts';

type Residuals = (at: readonly number[]) => Float64Array;

/** Huber's threshold in spreads of the residuals: 95 % efficient where they are normal. */
const HUBER_SPREADS = 1.345;
/** Standard deviation of a normal in median absolute deviations. */
const SPREAD_OF_MEDIAN = 1.4826;
const ITERATIONS = 60;
const STARTS = 8;
/** How far other starts lie from the first, in the parameters' own unit. */
const START_SPREAD = 2;
const STEP = 1e-4;
/** A descent ends where a step gains no more than this share of the loss: from each start, and from the best. */
const ENOUGH = { start: 1e-3, end: 1e-9 };

export interface Regression {
  /** Parameters that the search starts from. */
  readonly start: readonly number[];
  /** Largest value of each; Infinity = none. */
  readonly most: readonly number[];
  readonly weights: readonly number[];
  /** Least threshold: residuals below it are noise. */
  readonly leastSpread: number;
  /** True where the start is known to be near: no other is tried. */
  readonly isNear?: boolean;
  residuals(at: readonly number[]): Float64Array;
}

const spreadOf = (residuals: Float64Array): number =>
  SPREAD_OF_MEDIAN * quantileOfSorted(Float64Array.from(residuals, Math.abs).sort(), 0.5);

const huberLoss = (residuals: Float64Array, weights: readonly number[], threshold: number): number => {
  let sum = 0;
  for (let i = 0; i < residuals.length; i++) {
    const size = Math.abs(residuals[i]);
    sum += weights[i] * (size <= threshold ? size * size : threshold * (2 * size - threshold));
  }
  return sum;
};

/** Solves a symmetric positive definite system by Gauss-Jordan with pivoting; null where it is singular. */
const solve = (matrix: number[][], right: number[]): number[] | null => {
  const n = right.length;
  const rows = matrix.map((row, i) => [...row, right[i]]);
  for (let column = 0; column < n; column++) {
    let pivot = column;
    for (let row = column + 1; row < n; row++)
      if (Math.abs(rows[row][column]) > Math.abs(rows[pivot][column])) pivot = row;
    if (Math.abs(rows[pivot][column]) < 1e-300) return null;
    [rows[column], rows[pivot]] = [rows[pivot], rows[column]];
    for (let row = 0; row < n; row++) {
      if (row === column) continue;
      const factor = rows[row][column] / rows[column][column];
      for (let k = column; k <= n; k++) rows[row][k] -= factor * rows[column][k];
    }
  }
  return rows.map((row, i) => row[n] / row[i]);
};

/** Normal equations of the weighted residuals at a point. */
const normal = (residuals: Residuals, at: readonly number[], r: Float64Array, weights: readonly number[]) => {
  const columns = at.map((x, i) => {
    const moved = residuals(at.with(i, x + STEP));
    return moved.map((value, row) => (value - r[row]) / STEP);
  });
  const product = (a: Float64Array, b: Float64Array): number => {
    let sum = 0;
    for (let row = 0; row < r.length; row++) sum += weights[row] * a[row] * b[row];
    return sum;
  };
  return {
    matrix: columns.map((a) => columns.map((b) => product(a, b))),
    gradient: columns.map((a) => product(a, r)),
  };
};

interface Found {
  readonly at: readonly number[];
  readonly loss: number;
}

const descend = (
  regression: Regression,
  start: readonly number[],
  threshold: number,
  enough: number,
): Found => {
  const { residuals, weights, most } = regression;
  const within = (at: readonly number[]): readonly number[] => at.map((x, i) => Math.min(x, most[i]));
  let at = within(start);
  let r = residuals(at);
  let loss = huberLoss(r, weights, threshold);
  let damping = 1e-2;
  for (let iteration = 0; iteration < ITERATIONS; iteration++) {
    const robust = Array.from(
      r,
      (value, i) => weights[i] * Math.min(1, threshold / Math.max(1e-300, Math.abs(value))),
    );
    const { matrix, gradient } = normal(residuals, at, r, robust);
    let gained = 0;
    for (let attempt = 0; attempt < 8; attempt++) {
      const damped = matrix.map((row, i) => row.with(i, row[i] * (1 + damping) + 1e-12));
      const step = solve(damped, gradient);
      const next = within(at.map((x, i) => x - Math.max(-1, Math.min(1, step?.[i] ?? 0))));
      const nextR = residuals(next);
      const nextLoss = huberLoss(nextR, weights, threshold);
      if (nextLoss < loss) {
        gained = loss - nextLoss;
        [at, r, loss] = [next, nextR, nextLoss];
        damping = Math.max(1e-9, damping / 5);
        break;
      }
      damping *= 5;
    }
    if (gained <= enough * loss) break;
  }
  return { at, loss };
};

/** The parameters of the least robust loss found. The threshold follows the residuals as they shrink. */
export const regress = (regression: Regression): readonly number[] => {
  const { start, leastSpread, isNear = false } = regression;
  const random = createRandom(1, 'regression starts');
  const starts = Array.from({ length: isNear ? 1 : STARTS }, (_, n) =>
    n === 0 ? start : start.map((x) => x + START_SPREAD * (2 * random.uniform() - 1)),
  );
  const wide = HUBER_SPREADS * Math.max(leastSpread, spreadOf(regression.residuals(start)));
  let found = starts
    .map((one) => descend(regression, one, wide, ENOUGH.start))
    .reduce((a, b) => (b.loss < a.loss ? b : a));
  for (let round = 0; round < 3; round++) {
    const threshold = HUBER_SPREADS * Math.max(leastSpread, spreadOf(regression.residuals(found.at)));
    found = descend(regression, found.at, threshold, ENOUGH.end);
  }
  return found.at;
};
