/**
 * The directions in which rows vary most, about the origin: right singular vectors. From the Gram matrix where many are
 * wanted, else by block power iteration with a Rayleigh-Ritz step (Halko, Martinsson and Tropp, SIAM Review 53(2), 2011,
 * sections 4.5 and 5.3).
 */

import type { Random } from '../engine/random.ts';
import { addWeightedRows, dotRows } from '../engine/simd.ts';
import { symmetricEigen } from './eigen.ts';

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
  if (4 * kept > channels) {
    const { values, vectors } = symmetricEigen(gramOf(rows), channels);
    return { basis: Float32Array.from(vectors.subarray(0, kept * channels)), energy: values.slice(0, kept) };
  }
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
