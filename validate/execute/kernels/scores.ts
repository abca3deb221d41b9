/**
 * Scoring: products with bounds and vectors, and shares of their softmax. Scores that one call leaves for the next stay
 * in cache and are not counted.
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
export const softmaxMass = (use: KernelUse, rows: number, group: number, count: number): void => {
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
