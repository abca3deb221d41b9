/**
 * Eigenvalues and eigenvectors of a symmetric matrix: Householder reflections to a tridiagonal one, then implicit
 * symmetric QR steps with Wilkinson's shift (Golub and Van Loan, Matrix Computations, section 8.3).
 */
import { SimError } from '../error.ts';

export interface Eigen {
  /** Descending. */
  readonly values: Float64Array;
  /** Row i is the unit eigenvector of values[i]: row-major [n, n]. */
  readonly vectors: Float64Array;
}

interface Tridiagonal {
  readonly diagonal: Float64Array;
  /** Entry i stands beside diagonal[i] and diagonal[i + 1]. */
  readonly beside: Float64Array;
  /** Rows turn the matrix into this one: row-major [n, n], orthonormal. */
  readonly rows: Float64Array;
}

const EPSILON = 2 ** -52;
/** QR steps a row that no matrix of finite numbers needs: two or three are usual. */
const MOST_STEPS = 30;

/** The reflection v (from entry k + 1 on) that zeroes column k below its subdiagonal; returns 2 / v·v and that entry. */
const reflect = (a: Float64Array, n: number, k: number, v: Float64Array): readonly [number, number] => {
  let square = 0;
  for (let i = k + 1; i < n; i++) {
    v[i] = a[i * n + k];
    square += v[i] * v[i];
  }
  const left = (v[k + 1] > 0 ? -1 : 1) * Math.sqrt(square);
  const norm = square - 2 * left * v[k + 1] + left * left;
  v[k + 1] -= left;
  return [norm === 0 ? 0 : 2 / norm, left];
};

/** a ← H a H for the reflection H = 1 - beta v vᵀ, on the entries from k + 1 on. */
const applyBothSides = (a: Float64Array, n: number, k: number, v: Float64Array, beta: number): void => {
  const w = new Float64Array(n);
  let along = 0;
  for (let i = k + 1; i < n; i++) {
    let sum = 0;
    for (let j = k + 1; j < n; j++) sum += a[i * n + j] * v[j];
    w[i] = beta * sum;
    along += w[i] * v[i];
  }
  for (let i = k + 1; i < n; i++) w[i] -= (beta / 2) * along * v[i];
  for (let i = k + 1; i < n; i++) {
    for (let j = k + 1; j < n; j++) a[i * n + j] -= v[i] * w[j] + w[i] * v[j];
  }
};

const tridiagonalise = (matrix: Float64Array, n: number): Tridiagonal => {
  const a = matrix.slice();
  const diagonal = new Float64Array(n);
  const beside = new Float64Array(n);
  const reflections: (readonly [Float64Array, number])[] = [];
  for (let k = 0; k + 1 < n; k++) {
    const v = new Float64Array(n);
    const [beta, left] = reflect(a, n, k, v);
    diagonal[k] = a[k * n + k];
    beside[k] = left;
    applyBothSides(a, n, k, v, beta);
    reflections.push([v, beta]);
  }
  diagonal[n - 1] = a[n * n - 1];
  const rows = new Float64Array(n * n);
  for (let i = 0; i < n; i++) rows[i * n + i] = 1;
  for (let k = n - 2; k >= 0; k--) {
    const [v, beta] = reflections[k];
    for (let row = k + 1; row < n; row++) {
      let along = 0;
      for (let c = k + 1; c < n; c++) along += rows[row * n + c] * v[c];
      for (let c = k + 1; c < n; c++) rows[row * n + c] -= beta * along * v[c];
    }
  }
  return { diagonal, beside, rows };
};

/** The eigenvalue of the last two rows' block that is nearer to its last entry. */
const shiftOf = ({ diagonal, beside }: Tridiagonal, last: number): number => {
  const off = beside[last - 1];
  const half = (diagonal[last - 1] - diagonal[last]) / 2;
  return diagonal[last] - (off * off) / (half + (half < 0 ? -1 : 1) * Math.sqrt(half * half + off * off));
};

/** One QR step on rows first .. last: a bulge is chased down the diagonal by rotations of neighbouring rows. */
const chase = (t: Tridiagonal, n: number, first: number, last: number): void => {
  const { diagonal, beside, rows } = t;
  let x = diagonal[first] - shiftOf(t, last);
  let z = beside[first];
  for (let k = first; k < last; k++) {
    const r = Math.sqrt(x * x + z * z);
    const c = r === 0 ? 1 : x / r;
    const s = r === 0 ? 0 : -z / r;
    if (k > first) beside[k - 1] = r;
    const [p, q, off] = [diagonal[k], diagonal[k + 1], beside[k]];
    diagonal[k] = c * c * p - 2 * c * s * off + s * s * q;
    diagonal[k + 1] = s * s * p + 2 * c * s * off + c * c * q;
    beside[k] = c * s * (p - q) + (c * c - s * s) * off;
    x = beside[k];
    z = -s * beside[k + 1];
    if (k + 1 < last) beside[k + 1] *= c;
    for (let i = k * n, j = i + n, end = j; i < end; i++, j++) {
      const u = rows[i];
      const w = rows[j];
      rows[i] = c * u - s * w;
      rows[j] = s * u + c * w;
    }
  }
};

/** Of a symmetric matrix, row-major [n, n]; about 10 n³ multiply-adds. */
export const symmetricEigen = (matrix: Float64Array, n: number): Eigen => {
  const t = tridiagonalise(matrix, n);
  const { diagonal, beside, rows } = t;
  const isZero = (i: number): boolean =>
    Math.abs(beside[i]) <= EPSILON * (Math.abs(diagonal[i]) + Math.abs(diagonal[i + 1]));
  for (let last = n - 1, steps = 0; last > 0; ) {
    if (isZero(last - 1)) {
      beside[--last] = 0;
      continue;
    }
    if (++steps > MOST_STEPS * n)
      throw new SimError(
        'invariant-broken',
        `eigenvalues of a matrix of ${n} rows: no end after ${steps} steps`,
      );
    let first = last - 1;
    while (first > 0 && !isZero(first - 1)) first--;
    chase(t, n, first, last);
  }
  const order = Array.from(diagonal.keys()).sort((i, j) => diagonal[j] - diagonal[i] || i - j);
  const vectors = new Float64Array(n * n);
  order.forEach((from, to) => {
    vectors.set(rows.subarray(from * n, (from + 1) * n), to * n);
  });
  return { values: Float64Array.from(order, (i) => diagonal[i]), vectors };
};
