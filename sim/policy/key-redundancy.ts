/**
 * How much of a key the other keys say already: mean cosine with all others, where for each key the last one that is
 * similar to it goes uncounted, so that of a group of alike keys the newest looks least redundant; then a softmax.
 * R-KV (arXiv 2505.24133) as microsoft/G-KV gkv/utils/compression_score.py computes it (threshold 0.5).
 */
import { exp } from '../engine/math.ts';
import { dotRows } from '../engine/simd.ts';

/** Rows of the similarity matrix that are computed at a time. */
const BLOCK_ROWS = 64;

/** Unit rows of the keys at `positions[0..count)`, row-major [count, headDim]. */
const unitRows = (
  keys: Float32Array,
  headDim: number,
  positions: Int32Array,
  count: number,
): Float32Array => {
  const unit = new Float32Array(count * headDim);
  for (let i = 0; i < count; i++) {
    const from = positions[i] * headDim;
    let square = 0;
    for (let c = 0; c < headDim; c++) square += keys[from + c] * keys[from + c];
    const scale = 1 / (Math.sqrt(square) + 1e-6);
    for (let c = 0; c < headDim; c++) unit[i * headDim + c] = keys[from + c] * scale;
  }
  return unit;
};

/** Sum of each row's cosines with all others: its product with the sum of all unit rows, without itself. */
const cosineSums = (unit: Float32Array, headDim: number, count: number): Float64Array => {
  const total = new Float64Array(headDim);
  for (let i = 0; i < unit.length; i++) total[i % headDim] += unit[i];
  const sums = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    let sum = 0;
    for (let c = 0; c < headDim; c++) {
      const u = unit[i * headDim + c];
      sum += u * (total[c] - u);
    }
    sums[i] = sum;
  }
  return sums;
};

/**
 * Takes from `sums`, for each key, the cosine with the last other key above the threshold. From the newest rows
 * backwards: most keys find theirs at once, and only those that have not are looked at further.
 */
const forgiveLast = (
  unit: Float32Array,
  headDim: number,
  count: number,
  threshold: number,
  sums: Float64Array,
): void => {
  let open = Int32Array.from({ length: count }, (_, i) => i);
  let rows = unit;
  const cosines = new Float32Array(BLOCK_ROWS * count);
  for (let end = count; end > 0 && open.length > 0; end -= BLOCK_ROWS) {
    const start = Math.max(0, end - BLOCK_ROWS);
    const queries = unit.subarray(start * headDim, end * headDim);
    const stride = open.length;
    dotRows({
      queries,
      queryCount: end - start,
      rows,
      rowCount: stride,
      channels: headDim,
      out: cosines,
      stride,
      scale: 1,
    });
    let left = 0;
    for (let i = 0; i < stride; i++) {
      let row = end - 1;
      while (row >= start && (row === open[i] || cosines[(row - start) * stride + i] <= threshold)) row--;
      if (row >= start) sums[row] -= cosines[(row - start) * stride + i];
      else open[left++] = open[i];
    }
    if (left === stride) continue;
    open = open.slice(0, left);
    rows = new Float32Array(left * headDim);
    for (let i = 0; i < left; i++)
      rows.set(unit.subarray(open[i] * headDim, (open[i] + 1) * headDim), i * headDim);
  }
};

/** Redundancy of the keys at positions[0..count): a softmax over them, in that order; sums to 1. */
export const keyRedundancy = (
  keys: Float32Array,
  headDim: number,
  positions: Int32Array,
  count: number,
  threshold: number,
): Float32Array => {
  const unit = unitRows(keys, headDim, positions, count);
  const sums = cosineSums(unit, headDim, count);
  forgiveLast(unit, headDim, count, threshold, sums);
  let largest = -Infinity;
  for (const sum of sums) largest = Math.max(largest, sum);
  const weights = sums.map((sum) => exp((sum - largest) / count));
  const total = weights.reduce((a, b) => a + b, 0);
  return Float32Array.from(weights, (weight) => weight / total);
};
