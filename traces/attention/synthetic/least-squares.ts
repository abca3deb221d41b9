/**
 * Least squares of a few unknowns between bounds: Levenberg's damped steps (1944) with slopes by differences. Made for
 * smooth functions that are dear to evaluate; deterministic.
 */

export interface Bounded {
  /** Where the search begins. */
  readonly start: readonly number[];
  /** Least and most of each unknown; they are scaled so that a step of 0.05 is small and one of 0.5 large. */
  readonly bounds: readonly (readonly [number, number])[];
}

const rounds = 10;
const slopeStep = 0.05;
const mostStep = 0.5;
const triesPerRound = 4;
/** Summed squares that count as none, and a gain in a round that is too small to go on. */
const negligible = 1e-4;
const leastGain = 0.02;

type Vector = readonly number[];

const squareOf = (values: Vector): number => values.reduce((sum, x) => sum + x * x, 0);

export function solveBounded(residual: (x: Vector) => Vector, { start, bounds }: Bounded): Vector {
  let x = start;
  let left = residual(x);
  let damping = 0.05;
  for (let round = 0; round < rounds && squareOf(left) > negligible; round++) {
    const slopes = slopesAt(residual, x, left, bounds);
    const before = squareOf(left);
    for (let tries = 0; tries < triesPerRound; tries++) {
      const step = dampedStep(slopes, left, damping, x, bounds);
      const next = x.map((value, i) => {
        const moved = value + Math.max(-mostStep, Math.min(mostStep, step[i]));
        return Math.min(bounds[i][1], Math.max(bounds[i][0], moved));
      });
      const then = residual(next);
      if (squareOf(then) < before) {
        [x, left] = [next, then];
        damping = Math.max(1e-3, damping / 3);
        break;
      }
      damping *= 5;
    }
    if (squareOf(left) > (1 - leastGain) * before) break;
  }
  return x;
}

/** Slopes of all residuals along each unknown, by a step away from its nearer bound. */
function slopesAt(
  residual: (x: Vector) => Vector,
  x: Vector,
  left: Vector,
  bounds: Bounded['bounds'],
): readonly Vector[] {
  return x.map((value, i) => {
    const step = value + slopeStep > bounds[i][1] ? -slopeStep : slopeStep;
    const there = residual(x.map((other, j) => (j === i ? other + step : other)));
    return there.map((after, j) => (after - left[j]) / step);
  });
}

/** Solves (JᵀJ + damping) step = -Jᵀ left; an unknown that would leave its bounds stays. */
function dampedStep(
  slopes: readonly Vector[],
  left: Vector,
  damping: number,
  x: Vector,
  bounds: Bounded['bounds'],
): Vector {
  const dot = (a: Vector, b: Vector): number => a.reduce((sum, value, i) => sum + value * b[i], 0);
  const down = slopes.map((slope) => -dot(slope, left));
  const held = x.map(
    (value, i) => (value <= bounds[i][0] && down[i] < 0) || (value >= bounds[i][1] && down[i] > 0),
  );
  const matrix = slopes.map((a, i) =>
    slopes.map((b, j) => {
      const own = i === j ? damping : 0;
      return held[i] || held[j] ? (i === j ? 1 : 0) : dot(a, b) + own;
    }),
  );
  return eliminate(
    matrix,
    down.map((value, i) => (held[i] ? 0 : value)),
  );
}

/** Gaussian elimination of a positive definite system, which is overwritten. */
function eliminate(matrix: number[][], right: number[]): Vector {
  const size = right.length;
  for (let i = 0; i < size; i++) {
    for (let k = i + 1; k < size; k++) {
      const factor = matrix[k][i] / matrix[i][i];
      for (let j = i; j < size; j++) matrix[k][j] -= factor * matrix[i][j];
      right[k] -= factor * right[i];
    }
  }
  for (let i = size - 1; i >= 0; i--) {
    for (let j = i + 1; j < size; j++) right[i] -= matrix[i][j] * right[j];
    right[i] /= matrix[i][i];
  }
  return right;
}
