/**
 * Product quantisation of keys and values: each pair of channels takes the nearest of 16 centroids, 2 bits a channel,
 * with code books by k-means on the head's first rows (Jégou et al. 2011). Pairs as in coupled quantisation (arXiv
 * 2405.03917); PQCache (arXiv 2407.12820) uses such codes to rank keys, not to store them.
 */
import { SimError } from '../../error.ts';
import type { Codec } from '../codec.ts';
import { assignAll, evenStarts, kMeans, type RowSet } from '../k-means.ts';
import { LEARN_TOKENS, learnedTables } from '../learned-tables.ts';

const PAIR = 2;
const CENTROIDS = 16;
const ITERATIONS = 12;

const pairOf = (rows: Float32Array, d: number, from: number, tokens: number, pair: number): RowSet => {
  const out = new Float32Array(tokens * PAIR);
  for (let t = 0; t < tokens; t++) {
    const at = (from + t) * d + pair * PAIR;
    out[t * PAIR] = rows[at];
    out[t * PAIR + 1] = rows[at + 1];
  }
  return { rows: out, count: tokens, channels: PAIR };
};

/** One code book a pair of channels. */
const learnBooks = (rows: Float32Array, d: number, tokens: number): readonly RowSet[] =>
  Array.from({ length: d / PAIR }, (_, pair) => {
    const starts = evenStarts(tokens, Math.min(CENTROIDS, tokens));
    return kMeans(pairOf(rows, d, 0, tokens, pair), starts, ITERATIONS, 'euclidean').centroids;
  });

const codeRows = (
  rows: Float32Array,
  d: number,
  from: number,
  tokens: number,
  books: readonly RowSet[],
): ((out: Float32Array) => void) => {
  const codes = books.map((book, pair) => {
    const labels = new Int32Array(tokens);
    assignAll(pairOf(rows, d, from, tokens, pair), book, 'euclidean', labels);
    return Uint8Array.from(labels);
  });
  return (out) => {
    books.forEach((book, pair) => {
      for (let t = 0; t < tokens; t++) {
        const centroid = codes[pair][t] * PAIR;
        out[t * d + pair * PAIR] = book.rows[centroid];
        out[t * d + pair * PAIR + 1] = book.rows[centroid + 1];
      }
    });
  };
};

const rowBytes = (headDim: number): number => {
  if (headDim % PAIR !== 0)
    throw new SimError('invalid-input', `codec pq2 needs an even head dimension, got ${headDim}`);
  return headDim / 4;
};

const keyBooks = learnedTables(LEARN_TOKENS, learnBooks);
const valueBooks = learnedTables(LEARN_TOKENS, learnBooks);

export const codec: Codec = {
  name: 'pq2',
  title: 'product codes, 16 centroids per pair of channels',
  kBytesPerToken: rowBytes,
  vBytesPerToken: rowBytes,
  scaleBytes: () => 0,
  // Centroids in half precision.
  tableBytes: (headDim) => 2 * CENTROIDS * headDim * 2,
  // Table look-ups, no arithmetic; an address a pair.
  decodeFlopsPerToken: (headDim) => headDim,
  encode: (keys, values, headDim, from, tokens) => ({
    tokens,
    decodeKeys: codeRows(keys, headDim, from, tokens, keyBooks(keys, headDim, from + tokens)),
    decodeValues: codeRows(values, headDim, from, tokens, valueBooks(values, headDim, from + tokens)),
  }),
};
