/**
 * The directions in which rows vary most, about the origin: right singular vectors. All of them by cyclic Jacobi
 * rotations (Golub and Van Loan, Matrix Computations, section 8.5), or only the first few by block power iteration with
 * a Rayleigh-Ritz step (Halko, Martinsson and Tropp, SIAM Review 53(2), 2011, sections 4.5 and 5.3).
 */

import type { Random } from '../engine/random.ts';
import { addWeightedRows, dotRows } from '../engine/simd.ts';

export interface Eigen {
  /** Descending. */
  readonly values: Float64Array;
  /** Row i is the unit eigenvector of values[i]: row-major [n, n]. */
  readonly vectors: Float64Array;
}

/** Off-diagonal weight, relative to the diagonal's, at which rotations end; each sweep squares it. */
const CONVERGED = 1e-22;
const MAX_SWEEPS = 30;

/** Turns rows and columns p and q so that a[p][q] becomes 0; `v` collects the turns as rows. */
const turn = (a: Float64Array, v: Float64Array, n: number, p: number, q: number): void => {
  const apq = a[p * n + q];
  if (apq === 0) return;
  const theta = (a[q * n + q] - a[p * n + p]) / (2 * apq);
  const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
  const c = 1 / Math.sqrt(t * t + 1);
  const s = t * c;
  for (let k = 0; k < n; k++) {
    const x = a[k * n + p];
    const y = a[k * n + q];
    a[k * n + p] = c * x - s * y;
    a[k * n + q] = s * x + c * y;
  }
  for (let k = 0; k < n; k++) {
    const x = a[p * n + k];
    const y = a[q * n + k];
    a[p * n + k] = c * x - s * y;
    a[q * n + k] = s * x + c * y;
    const vx = v[p * n + k];
    const vy = v[q * n + k];
    v[p * n + k] = c * vx - s * vy;
    v[q * n + k] = s * vx + c * vy;
  }
};

const offDiagonal = (a: Float64Array, n: number): number => {
  let off = 0;
  let diagonal = 0;
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      if (i === j) diagonal += a[i * n + i] * a[i * n + i];
      else off += a[i * n + j] * a[i * n + j];
    }
  }
  return diagonal === 0 ? off : off / diagonal;
};

/** Eigenvalues and eigenvectors of a symmetric matrix, row-major [n, n]; time about 30 n³ multiply-adds. */
export const symmetricEigen = (matrix: Float64Array, n: number): Eigen => {
  const a = matrix.slice();
  const v = new Float64Array(n * n);
  for (let i = 0; i < n; i++) v[i * n + i] = 1;
  for (let sweep = 0; sweep < MAX_SWEEPS && offDiagonal(a, n) > CONVERGED; sweep++) {
    for (let p = 0; p < n - 1; p++) for (let q = p + 1; q < n; q++) turn(a, v, n, p, q);
  }
  const order = Array.from({ length: n }, (_, i) => i).sort((i, j) => a[j * n + j] - a[i * n + i] || i - j);
  const vectors = new Float64Array(n * n);
  order.forEach((from, to) => {
    vectors.set(v.subarray(from * n, (from + 1) * n), to * n);
  });
  return { values: Float64Array.from(order, (i) => a[i * n + i]), vectors };
};

/** Rows, row-major [rowCount, channels]. */
export interface Rows {
  readonly rows: Float32Array;
  readonly rowCount: number;
  readonly channels: number;
}

/** Rows that are multiplied in one piece. */
const TILE_ROWS = 4096;

/** directions · rowsᵀ · rows, row-major [count, channels]. */
const timesGram = (
  { rows, rowCount, channels }: Rows,
  directions: Float32Array,
  count: number,
): Float64Array => {
  const out = new Float64Array(count * channels);
  const weights = new Float32Array(count * Math.min(rowCount, TILE_ROWS));
  for (let from = 0; from < rowCount; from += TILE_ROWS) {
    const tileRows = Math.min(TILE_ROWS, rowCount - from);
    const tile = { rows: rows.subarray(from * channels), rowCount: tileRows, channels, queryCount: count };
    dotRows({ ...tile, queries: directions, out: weights, stride: tileRows, scale: 1 });
    addWeightedRows({ ...tile, weights, stride: tileRows, out });
  }
  return out;
};

/** Σ rowᵀ row: row-major [channels, channels]. */
export const gramOf = (rows: Rows): Float64Array => {
  const { channels } = rows;
  const unit = new Float32Array(channels * channels);
  for (let c = 0; c < channels; c++) unit[c * channels + c] = 1;
  return timesGram(rows, unit, channels);
};

/** Makes rows orthonormal by Gram-Schmidt, twice over for float precision; rows that vanish become zero. */
const orthonormalise = (rows: Float64Array, count: number, n: number): void => {
  for (let i = 0; i < count; i++) {
    const row = rows.subarray(i * n, (i + 1) * n);
    const before = Math.sqrt(row.reduce((sum, x) => sum + x * x, 0));
    for (let pass = 0; pass < 2; pass++) {
      for (let j = 0; j < i; j++) {
        let dot = 0;
        for (let c = 0; c < n; c++) dot += row[c] * rows[j * n + c];
        for (let c = 0; c < n; c++) row[c] -= dot * rows[j * n + c];
      }
    }
    const norm = Math.sqrt(row.reduce((sum, x) => sum + x * x, 0));
    const scale = norm > 1e-10 * before ? 1 / norm : 0;
    for (let c = 0; c < n; c++) row[c] *= scale;
  }
};

/** rowsᵢ ← Σ turnᵢⱼ rowsⱼ for the first `kept` rows of the result. */
const recombine = (turnRows: Float64Array, rows: Float64Array, count: number, n: number, kept: number) => {
  const out = new Float32Array(kept * n);
  for (let i = 0; i < kept; i++) {
    const sum = new Float64Array(n);
    for (let j = 0; j < count; j++) {
      const factor = turnRows[i * count + j];
      for (let c = 0; c < n; c++) sum[c] += factor * rows[j * n + c];
    }
    out.set(sum, i * n);
  }
  return out;
};

/** Directions carried beyond the wanted rank, which make the iteration converge fast. */
const OVERSAMPLE = 8;
const POWER_STEPS = 4;

/**
 * Orthonormal basis of the `rank` directions that hold most of the rows' squared length, strongest first: row-major
 * [rank, channels], with the squared length along each. Rank is cut to the channels.
 */
export const principalDirections = (
  rows: Rows,
  rank: number,
  random: Random,
): { readonly basis: Float32Array; readonly energy: Float64Array } => {
  const { channels } = rows;
  const kept = Math.min(rank, channels);
  const count = Math.min(channels, kept + OVERSAMPLE);
  const start = new Float32Array(count * channels);
  random.fillNormal(start);
  let directions: Float64Array = Float64Array.from(start);
  orthonormalise(directions, count, channels);
  for (let step = 0; step < POWER_STEPS; step++) {
    directions = timesGram(rows, Float32Array.from(directions), count);
    orthonormalise(directions, count, channels);
  }
  const image = timesGram(rows, Float32Array.from(directions), count);
  const small = new Float64Array(count * count);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < count; j++) {
      let dot = 0;
      for (let c = 0; c < channels; c++) dot += image[i * channels + c] * directions[j * channels + c];
      small[i * count + j] = dot;
    }
  }
  // Symmetric but for rounding.
  for (let i = 0; i < count; i++)
    for (let j = 0; j < i; j++)
      small[i * count + j] = small[j * count + i] = (small[i * count + j] + small[j * count + i]) / 2;
  const { values, vectors } = symmetricEigen(small, count);
  return { basis: recombine(vectors, directions, count, channels, kept), energy: values.slice(0, kept) };
};
