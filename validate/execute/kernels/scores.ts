/**
 * Scoring: products with bounds and vectors, shares of their softmax, and sums of product codes. Scores that one call
 * leaves for the next stay in cache and are not counted.
 */
import type { Ref } from '../../../kernels/calls.ts';
import { REDUCE, scoreRows } from '../../../kernels/group-scores.ts';
import { type CallBytes, countOf, type KernelBinder, type KernelUse, SCORES, shapeOf } from './kernel-use.ts';

/** Channel bounds of pages, two rows a page. */
export const boundsScore: KernelBinder = (use) => {
  const { binding, rows, group, headDim, perQuery } = use;
  const pages = countOf(use, 'pages');
  if (pages < 1) return null;
  const reduce = perQuery ? REDUCE.perQuery : REDUCE.max;
  const read = 4 * headDim * rows * pages;
  const bytes = 4 * rows * scoreRows(group, reduce) * pages;
  const scores = binding.layout.place('scores', bytes);
  binding.add('bounds-score', {
    refs: {
      queries: binding.layout.place('kv', 2 * rows * group * headDim),
      bounds: binding.layout.place('kv', read),
      scores,
    },
    ints: { rows, group, pages, headDim, boundStride: pages, scoreStride: pages, reduce },
  });
  binding.leave(SCORES, scores, bytes);
  return { read, write: 0 };
};

/** Sizes of products with one vector an entry. */
interface Products {
  readonly rows: number;
  readonly group: number;
  readonly count: number;
  /** Numbers of a vector. */
  readonly channels: number;
  readonly isEach: boolean;
  readonly queries: Ref;
}

/** A row's vectors are a piece, which begins where the widest loads may. */
const PIECE_STEP = 16;

/** Products of queries with vectors, left for what ranks by them. */
export const multiply = (
  { binding, headDim }: KernelUse,
  { rows, group, count, channels, isEach, queries }: Products,
): CallBytes => {
  const reduce = isEach ? REDUCE.perQuery : REDUCE.max;
  const pieceBytes = PIECE_STEP * Math.ceil((2 * channels * count) / PIECE_STEP);
  const bytes = 4 * rows * scoreRows(group, reduce) * count;
  const scores = binding.layout.place('scores', bytes);
  binding.add('dot-score', {
    refs: { queries, vectors: binding.layout.place('kv', rows * pieceBytes), scores },
    ints: {
      rows,
      group,
      count,
      headDim: channels,
      pieceVectors: count,
      pieceStride: 1,
      pieceBytes,
      scoreStride: count,
      reduce,
    },
    reals: { scale: 1 / Math.sqrt(headDim) },
  });
  binding.leave(SCORES, scores, bytes);
  return { read: 2 * channels * rows * count, write: 0 };
};

/** Products of heads; `copies` = rows of a KV head that its query heads have for themselves. */
const products = (use: KernelUse, isEach: boolean): CallBytes | null => {
  const { binding, headDim } = use;
  const count = countOf(use, 'count');
  if (count < 1) return null;
  const copies = shapeOf(use, 'copies', 1);
  const [rows, group] = [use.rows * copies, use.group / copies];
  const queries = binding.layout.place('kv', 2 * rows * group * headDim);
  return multiply(use, { rows, group, count, channels: headDim, isEach, queries });
};

/** Products with centroids, summaries, keys. */
export const dotScore: KernelBinder = (use) => products(use, use.perQuery);

/** Shares of each query's softmax over the scores left before, one value a group: their largest, or with `sum` their sum. */
const softmaxMass = (use: KernelUse, rows: number, group: number, count: number): void => {
  const { binding } = use;
  const bytes = 4 * rows * group * count;
  const scores = binding.left(SCORES, bytes) ?? binding.layout.place('scores', bytes);
  const mass = binding.layout.place('scores', 4 * rows * count);
  const reduce = shapeOf(use, 'sum') === 1 ? REDUCE.sum : REDUCE.max;
  binding.add('softmax-mass', {
    refs: { scores, mass },
    ints: { rows, group, count, scoreStride: count, massStride: count, reduce },
  });
  binding.leave(SCORES, mass, 4 * rows * count);
};

/** Products, then shares of each query's softmax; where a query head's shares are added to its state (`sum`), that too. */
export const dotShares: KernelBinder = (use) => {
  const bytes = products(use, true);
  if (bytes === null) return null;
  const copies = shapeOf(use, 'copies', 1);
  const rows = use.rows * copies;
  const count = countOf(use, 'count');
  softmaxMass(use, rows, use.group / copies, count);
  return shapeOf(use, 'sum') === 1 ? { ...bytes, write: 4 * rows * count } : bytes;
};

/** So many codes are drawn, the others repeat them. */
const DRAWN_CODES = 2 ** 18;

/** Codes below `centroids`, four to a word. */
const codeWords = (bytes: number, centroids: number): Uint8Array => {
  const codes = new Uint8Array(4 * Math.ceil(bytes / 4));
  const drawn = Math.min(codes.length, DRAWN_CODES);
  for (let i = 0; i < drawn; i++) codes[i] = (Math.imul(i, 0x9e3779b1) >>> 16) % centroids;
  for (let have = drawn; have < codes.length; have *= 2) codes.copyWithin(have, 0, have);
  return codes;
};

/** Sums of products that codes name, each query head's for itself, then the sum of their softmax shares. */
export const pqShares: KernelBinder = (use) => {
  const { binding, rows, group, headDim } = use;
  const count = countOf(use, 'tokens');
  const [subspaces, centroids] = [shapeOf(use, 'subspaces'), shapeOf(use, 'centroids')];
  if (count < 1 || headDim % subspaces !== 0 || centroids > 256) return null;
  const bytes = rows * count * subspaces;
  const books = 4 * rows * centroids * headDim;
  const scores = binding.layout.place('scores', 4 * rows * group * count);
  binding.add('pq-score', {
    refs: {
      queries: binding.layout.place('kv', 2 * rows * group * headDim),
      books: binding.layout.place('scores', books),
      codes: binding.layout.drawn('tables', bytes, () => codeWords(bytes, centroids)),
      scores,
    },
    ints: {
      rows,
      group,
      count,
      headDim,
      subspaces,
      centroids,
      tokenStride: count,
      scoreStride: count,
      reduce: REDUCE.perQuery,
    },
    reals: { scale: 1 / Math.sqrt(headDim) },
  });
  binding.leave(SCORES, scores, 4 * rows * group * count);
  softmaxMass({ ...use, call: { ...use.call, shape: { sum: 1 } } }, rows, group, count);
  return { read: bytes + books, write: 0 };
};

/** Codes of new tokens: the nearest centroid of each subspace. */
export const pqAssign: KernelBinder = (use) => {
  const { binding, rows, headDim } = use;
  const tokens = countOf(use, 'tokens');
  const [subspaces, centroids] = [shapeOf(use, 'subspaces'), shapeOf(use, 'centroids')];
  if (tokens < 1 || headDim % subspaces !== 0 || centroids > 256) return null;
  const books = 4 * rows * centroids * headDim;
  const keys = 2 * rows * tokens * headDim;
  binding.add('pq-assign', {
    refs: {
      keys: binding.layout.place('kv', keys),
      books: binding.layout.place('scores', books),
      codes: binding.layout.place('outputs', rows * tokens * subspaces),
    },
    ints: {
      rows,
      from: 0,
      to: tokens,
      headDim,
      subspaces,
      centroids,
      pieceVectors: tokens,
      pieceStride: 1,
      pieceBytes: 2 * headDim * tokens,
      tokenStride: tokens,
    },
  });
  return { read: books + keys, write: rows * tokens * subspaces };
};
