/** Pages by the bounds of their keys, each query head for itself (Quest, arXiv 2406.10774). */
import { ChannelBounds } from '../../sim/policy/channel-bounds.ts';
import { Ranking } from '../../sim/policy/ranking.ts';
import {
  bf16BytesOf,
  type SelectionCheck,
  type SelectionDevice,
  type SelectionHead,
  type SelectionSize,
} from './check.ts';

/** Page sizes that policies use; the one that makes `of` pages of the tokens. */
const PAGE_TOKENS = [8, 16, 32, 64, 128] as const;

const byKernel = async (
  device: SelectionDevice,
  { keys, queries, tokens, group, headDim }: SelectionHead,
  pageTokens: number,
  pages: number,
  k: number,
): Promise<Uint32Array> => {
  const padded = new Float32Array(pages * pageTokens * headDim);
  padded.set(keys.subarray(0, tokens * headDim));
  const bounds = await device.room(4 * headDim * pages);
  const scores = await device.room(4 * group * pages);
  const ids = await device.room(4 * group * k);
  await device.run([
    {
      kernel: 'page-bounds',
      refs: { keys: await device.put(bf16BytesOf(padded)), bounds },
      ints: {
        rows: 1,
        from: 0,
        to: tokens,
        pageTokens,
        headDim,
        pageStride: pages,
        pageBytes: 2 * pageTokens * headDim,
        boundStride: pages,
      },
    },
    {
      kernel: 'bounds-score',
      refs: { queries: await device.put(bf16BytesOf(queries)), bounds, scores },
      ints: { rows: 1, group, pages, headDim, boundStride: pages, scoreStride: pages, reduce: 0 },
    },
    {
      kernel: 'topk',
      refs: { scores, ids },
      ints: { rows: group, of: pages, k, scoreStride: pages, mapStride: pages, idStride: k },
    },
  ]);
  return await device.numbers(ids, group * k);
};

export const selection = {
  policies: ['quest'],
  kernels: ['page-bounds', 'bounds-score', 'topk'],
  async run(device, head, size: SelectionSize) {
    const { keys, queries, tokens, group, headDim } = head;
    const pageTokens = PAGE_TOKENS.find((candidate) => Math.ceil(tokens / candidate) === size.of) ?? 16;
    const pages = Math.ceil(tokens / pageTokens);
    const k = Math.min(size.k, pages);
    const ids = await byKernel(device, head, pageTokens, pages, k);
    const bounds = new ChannelBounds(tokens, headDim, pageTokens);
    bounds.update(keys, 0, tokens);
    const scores = new Float32Array(group * pages);
    bounds.scoreInto(queries, group, pages, scores, pages);
    const ranking = new Ranking(pages);
    return Array.from({ length: group }, (_, query) => {
      const count = ranking.best(scores.subarray(query * pages, (query + 1) * pages), 0, pages, k);
      return {
        byKernel: ids.subarray(query * k, (query + 1) * k),
        byPolicy: ranking.positions.slice(0, count),
      };
    });
  },
} satisfies SelectionCheck;
