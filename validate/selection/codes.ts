/** Tokens by product codes: softmax of the estimated products, summed over the group (PQCache, arXiv 2407.12820). */
import { REDUCE } from '../../kernels/group-scores.ts';
import { PqIndex } from '../../sim/policy/pq-index.ts';
import { Ranking, reduceRows } from '../../sim/policy/ranking.ts';
import { softmaxInPlace } from '../../sim/quality/exact-attention.ts';
import { bf16BytesOf, type SelectionCheck, type SelectionDevice, type SelectionHead } from './check.ts';

/** PQCache's defaults; the rounds of k-means don't matter here. */
const SUBSPACES = 2;
const BITS = 6;
const ROUNDS = 3;

const byKernel = async (
  device: SelectionDevice,
  { keys, queries, tokens, group, headDim }: SelectionHead,
  index: PqIndex,
  k: number,
): Promise<Uint32Array> => {
  const bookRows = Float32Array.from(index.books.flatMap(({ rows }) => [...rows]));
  const books = await device.put(new Uint8Array(bookRows.buffer));
  const codes = await device.room(tokens * SUBSPACES);
  const scores = await device.room(4 * group * tokens);
  const mass = await device.room(4 * tokens);
  const ids = await device.room(4 * k);
  const shape = { rows: 1, headDim, subspaces: SUBSPACES, centroids: index.centroids, tokenStride: tokens };
  await device.run([
    {
      kernel: 'pq-assign',
      refs: { keys: await device.put(bf16BytesOf(keys.subarray(0, tokens * headDim))), books, codes },
      ints: {
        ...shape,
        from: 0,
        to: tokens,
        pieceVectors: tokens,
        pieceStride: 1,
        pieceBytes: 2 * tokens * headDim,
      },
    },
    {
      kernel: 'pq-score',
      refs: { queries: await device.put(bf16BytesOf(queries)), books, codes, scores },
      ints: { ...shape, group, count: tokens, scoreStride: tokens, reduce: REDUCE.perQuery },
      reals: { scale: 1 / Math.sqrt(headDim) },
    },
    {
      kernel: 'softmax-mass',
      refs: { scores, mass },
      ints: { rows: 1, group, count: tokens, scoreStride: tokens, massStride: tokens, reduce: REDUCE.sum },
    },
    {
      kernel: 'topk',
      refs: { scores: mass, ids },
      ints: { rows: 1, of: tokens, k, scoreStride: tokens, mapStride: tokens, idStride: k },
    },
  ]);
  return await device.numbers(ids, k);
};

export const selection = {
  policies: ['pqcache'],
  kernels: ['pq-assign', 'pq-score', 'softmax-mass', 'topk'],
  async run(device, head, size) {
    const { keys, queries, tokens, group, headDim } = head;
    const index = new PqIndex(tokens, headDim, SUBSPACES, BITS, 0);
    index.train(keys, tokens, ROUNDS);
    const k = Math.min(size.k, tokens);
    const scores = new Float32Array(group * tokens);
    index.scoreInto(queries, group, tokens, scores, tokens, 1 / Math.sqrt(headDim));
    for (let g = 0; g < group; g++) softmaxInPlace(scores.subarray(g * tokens, (g + 1) * tokens), tokens);
    reduceRows(scores, group, tokens, tokens, 'sum', scores);
    const ranking = new Ranking(tokens);
    const count = ranking.best(scores, 0, tokens, k);
    return [
      { byKernel: await byKernel(device, head, index, k), byPolicy: ranking.positions.slice(0, count) },
    ];
  },
} satisfies SelectionCheck;
