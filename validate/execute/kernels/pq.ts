/**
 * PQCache's calls: sums of products that codes name, by kernels of ours or in the passes of its authors' PyTorch, and codes
 * of new tokens.
 */
import { passBytes } from '../../../kernels/calls/pq-passes.ts';
import type { Ref } from '../../../kernels/calls.ts';
import { REDUCE } from '../../../kernels/group-scores.ts';
import { byPosition } from '../memory.ts';
import { CODES, countOf, type KernelBinder, type KernelUse, SCORES, shapeOf } from './kernel-use.ts';
import { softmaxMass } from './scores.ts';

/** So many codes are drawn, the others repeat them. */
const DRAWN_CODES = 2 ** 18;

/** A code below `centroids`, by its position. */
const drawnCode = (i: number, centroids: number): number => (Math.imul(i, 0x9e3779b1) >>> 16) % centroids;

/** Codes below `centroids`, four to a word. */
const codeWords = (bytes: number, centroids: number): Uint8Array => {
  const codes = new Uint8Array(4 * Math.ceil(bytes / 4));
  const drawn = Math.min(codes.length, DRAWN_CODES);
  for (let i = 0; i < drawn; i++) codes[i] = drawnCode(i, centroids);
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

/** 64-bit codes, in the one place that uploads of all layers go to. */
export const wideCodes = ({ binding }: KernelUse, bytes: number, centroids: number): Ref =>
  binding.once(`codes ${bytes} ${centroids}`, () =>
    binding.layout.numbers(
      'tables',
      bytes / 4,
      byPosition((word) => (word % 2 === 0 ? drawnCode(word / 2, centroids) : 0)),
    ),
  );

/** The same sums in passes over the copies of the codes that query heads have; the last leaves 32 bits for the selection. */
export const pqPasses: KernelBinder = (use) => {
  const { binding, rows, group, headDim } = use;
  const count = countOf(use, 'tokens');
  const [subspaces, centroids] = [shapeOf(use, 'subspaces'), shapeOf(use, 'centroids')];
  if (count < 1 || headDim % subspaces !== 0) return null;
  const codeStride = Math.max(count, shapeOf(use, 'reservedTokens'));
  const vectors = rows * group;
  const codeBytes = 8 * vectors * subspaces * codeStride;
  const scores = binding.layout.place('scores', 4 * rows * count);
  binding.add('pq-passes', {
    refs: {
      queries: binding.layout.place('kv', 2 * vectors * headDim),
      books: binding.layout.place('kv', 2 * rows * centroids * headDim),
      codes: binding.left(CODES, codeBytes) ?? wideCodes(use, codeBytes, centroids),
      passes: binding.layout.place('outputs', passBytes(vectors, { subspaces, centroids, count })),
      scores,
    },
    ints: { rows, group, count, headDim, subspaces, centroids, codeStride, scoreStride: count },
    reals: { scale: 1 / Math.sqrt(headDim) },
  });
  binding.leave(SCORES, scores, 4 * rows * count);
  // Gathered, summed, scaled, softmax, summed: each pass reads and writes what lies between it and the next.
  const gathered = 2 * vectors * subspaces * count;
  const passed = 3 * 2 * vectors * count;
  return {
    read: 8 * vectors * subspaces * count + gathered + passed,
    write: gathered + passed,
  };
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
