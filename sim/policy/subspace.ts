/** Rows as coordinates in a subspace with an orthonormal basis (row-major [rank, channels]), and back. */
import { addWeightedRows, dotRows } from '../engine/simd.ts';

/** Coordinates of `rowCount` rows: row-major [rowCount, rank]. */
export const coordinatesOf = (
  rows: Float32Array,
  channels: number,
  rowCount: number,
  basis: Float32Array,
): Float32Array => {
  const rank = basis.length / channels;
  // Row r of the products is coordinate r of all rows.
  const products = new Float32Array(rank * rowCount);
  const job = { queries: basis, queryCount: rank, rows, rowCount, channels };
  dotRows({ ...job, out: products, stride: rowCount, scale: 1 });
  const coordinates = new Float32Array(rowCount * rank);
  for (let r = 0; r < rank; r++)
    for (let t = 0; t < rowCount; t++) coordinates[t * rank + r] = products[r * rowCount + t];
  return coordinates;
};

/** The rows that coordinates stand for: row-major [rowCount, channels]. */
export const rowsAt = (
  coordinates: Float32Array,
  channels: number,
  rowCount: number,
  basis: Float32Array,
): Float64Array => {
  const rank = basis.length / channels;
  const out = new Float64Array(rowCount * channels);
  const job = { weights: coordinates, queryCount: rowCount, stride: rank, rows: basis, rowCount: rank };
  addWeightedRows({ ...job, channels, out });
  return out;
};
