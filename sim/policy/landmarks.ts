/**
 * Chunks of keys by their mean: the landmark that stands for a chunk, and how badly it may stand for one of its keys
 * (ShadowKV, arXiv 2410.21465, section 4.1; bytedance/ShadowKV kv_cache.py).
 */
import { topKPositions } from '../quality/top-k.ts';

/** Means of chunks 0 .. chunks-1 of `chunkTokens` keys each: row-major [chunks, headDim]. */
export const chunkMeans = (
  keys: Float32Array,
  headDim: number,
  chunkTokens: number,
  chunks: number,
): Float32Array => {
  const means = new Float32Array(chunks * headDim);
  for (let chunk = 0; chunk < chunks; chunk++) {
    for (let token = chunk * chunkTokens; token < (chunk + 1) * chunkTokens; token++) {
      for (let c = 0; c < headDim; c++) means[chunk * headDim + c] += keys[token * headDim + c] / chunkTokens;
    }
  }
  return means;
};

const cosine = (a: Float32Array, i: number, b: Float32Array, j: number, n: number): number => {
  let product = 0;
  let squareA = 0;
  let squareB = 0;
  for (let c = 0; c < n; c++) {
    product += a[i + c] * b[j + c];
    squareA += a[i + c] * a[i + c];
    squareB += b[j + c] * b[j + c];
  }
  return squareA === 0 || squareB === 0 ? 0 : product / Math.sqrt(squareA * squareB);
};

/** The `count` chunks with a key of the lowest cosine to the chunk's mean, ascending by position. */
export const outlierChunks = (
  keys: Float32Array,
  means: Float32Array,
  headDim: number,
  chunkTokens: number,
  count: number,
): Int32Array => {
  const chunks = means.length / headDim;
  // From 0 (the key is the mean) to 2 (it is opposed).
  const distances = new Float32Array(chunks);
  for (let chunk = 0; chunk < chunks; chunk++) {
    for (let token = chunk * chunkTokens; token < (chunk + 1) * chunkTokens; token++) {
      const distance = 1 - cosine(keys, token * headDim, means, chunk * headDim, headDim);
      if (distance > distances[chunk]) distances[chunk] = distance;
    }
  }
  const found = new Int32Array(chunks);
  return found.slice(0, topKPositions(distances, chunks, count, found));
};
