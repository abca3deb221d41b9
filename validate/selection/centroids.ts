/** Products of queries with vectors that stand for tokens: mean keys of chunks, as centroids and landmarks are. */
import { descending, reduceRows } from '../../sim/policy/ranking.ts';
import { bf16BytesOf, roundedToBf16, type SelectionCheck, type SelectionHead } from './check.ts';

/** Mean keys of `count` chunks, rounded as they are stored. */
const means = ({ keys, tokens, headDim }: SelectionHead, count: number): Float32Array => {
  const sums = new Float32Array(count * headDim);
  const chunk = tokens / count;
  for (let i = 0; i < count; i++) {
    const [from, to] = [
      Math.floor(i * chunk),
      Math.max(Math.floor(i * chunk) + 1, Math.floor((i + 1) * chunk)),
    ];
    for (let token = from; token < to; token++)
      for (let c = 0; c < headDim; c++) sums[i * headDim + c] += keys[token * headDim + c] / (to - from);
  }
  return roundedToBf16(sums);
};

export const selection = {
  policies: ['shadowkv', 'clusterkv', 'retroinfer'],
  kernels: ['dot-score', 'topk'],
  async run(device, head, size) {
    const { queries, group, headDim, tokens } = head;
    const count = Math.max(1, Math.min(size.of, tokens));
    const k = Math.min(size.k, count);
    const vectors = means(head, count);
    const scores = await device.room(4 * count);
    const ids = await device.room(4 * k);
    await device.run([
      {
        kernel: 'dot-score',
        refs: {
          queries: await device.put(bf16BytesOf(queries)),
          vectors: await device.put(bf16BytesOf(vectors)),
          scores,
        },
        ints: {
          rows: 1,
          group,
          count,
          headDim,
          pieceVectors: count,
          pieceStride: 1,
          pieceBytes: 2 * headDim * count,
          scoreStride: count,
          reduce: 1,
        },
        reals: { scale: 1 / Math.sqrt(headDim) },
      },
      {
        kernel: 'topk',
        refs: { scores, ids },
        ints: { rows: 1, of: count, k, scoreStride: count, mapStride: count, idStride: k },
      },
    ]);
    const rows = new Float32Array(group * count);
    for (let query = 0; query < group; query++)
      for (let i = 0; i < count; i++) {
        let dot = 0;
        for (let c = 0; c < headDim; c++) dot += queries[query * headDim + c] * vectors[i * headDim + c];
        rows[query * count + i] = dot / Math.sqrt(headDim);
      }
    const reduced = new Float32Array(count);
    reduceRows(rows, group, count, count, 'max', reduced);
    return [{ byKernel: await device.numbers(ids, k), byPolicy: descending(reduced).subarray(0, k) }];
  },
} satisfies SelectionCheck;
