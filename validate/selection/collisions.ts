/** Keys that collide most with the query, reranked by 4-bit codes (ParisKV, arXiv 2602.07721). */
import type { Ref } from '../../kernels/calls.ts';
import { ParisIndex } from '../../sim/policy/pariskv-index.ts';
import { Ranking } from '../../sim/policy/ranking.ts';
import { Rotation } from '../../sim/policy/rotated-code.ts';
import { bf16BytesOf, type SelectionCheck, type SelectionDevice, type SelectionHead } from './check.ts';

/** Share of the keys that the tiers cover, and of candidates: those of long contexts (polar_cache.py). */
const RHO = 0.2;
const BETA = 0.1;

/** Signs of the rotation, read off its first component, to which every channel adds its sign over √dim. */
const signsOf = (headDim: number): Float32Array => {
  const rotation = new Rotation(headDim);
  const { dim } = rotation;
  const out = new Float64Array(dim);
  return Float32Array.from({ length: dim }, (_, channel) => {
    if (channel >= headDim) return 1;
    const unit = new Float32Array(headDim);
    unit[channel] = 1;
    rotation.apply(unit, 0, out);
    return Math.sign(out[0]);
  });
};

const byKernel = async (
  device: SelectionDevice,
  { keys, queries, tokens, group, headDim }: SelectionHead,
  candidates: number,
  k: number,
): Promise<Uint32Array> => {
  const signs = await device.put(new Uint8Array(signsOf(headDim).buffer));
  const { dim } = new Rotation(headDim);
  const subspaces = dim / 8;
  const rows = 1;
  const room = async (bytes: number): Promise<Ref> => await device.room(bytes);
  const [ids, codes, weights] = [
    await room(tokens * subspaces),
    await room((tokens * dim) / 2),
    await room((tokens * dim) / 4),
  ];
  const strides = { codeStride: dim / 2, weightStride: dim / 4 };
  const [counts, tiers, collisions] = [
    await room(1024 * subspaces),
    await room(256 * subspaces),
    await room(2 * tokens),
  ];
  const [chosen, estimates, best] = [
    await room(4 * candidates),
    await room(4 * candidates),
    await room(4 * k),
  ];
  const q = await device.put(bf16BytesOf(queries));
  await device.run([
    {
      kernel: 'paris-encode',
      refs: {
        keys: await device.put(bf16BytesOf(keys.subarray(0, tokens * headDim))),
        signs,
        ids,
        codes,
        weights,
        counts,
      },
      ints: {
        rows,
        from: 0,
        to: tokens,
        headDim,
        pieceVectors: tokens,
        pieceStride: 1,
        pieceBytes: 2 * headDim * tokens,
        tokenStride: tokens,
        ...strides,
      },
    },
    {
      kernel: 'paris-tiers',
      refs: { queries: q, signs, counts, tiers },
      ints: { rows, group, headDim, tokens },
      reals: { rho: RHO },
    },
    {
      kernel: 'paris-collide',
      refs: { ids, tiers, collisions },
      ints: { rows, tokens, subspaces, tokenStride: tokens, scoreStride: tokens },
    },
    {
      kernel: 'paris-select',
      refs: { collisions, ids: chosen },
      ints: { rows, of: tokens, k: candidates, scoreStride: tokens, idStride: candidates },
    },
    {
      kernel: 'paris-rerank',
      refs: { queries: q, signs, candidates: chosen, codes, weights, estimates },
      ints: {
        rows,
        group,
        headDim,
        count: candidates,
        idStride: candidates,
        tokenStride: tokens,
        estimateStride: candidates,
        ...strides,
      },
    },
    {
      kernel: 'topk',
      refs: { scores: estimates, map: chosen, ids: best },
      ints: { rows, of: candidates, k, scoreStride: candidates, mapStride: candidates, idStride: k },
    },
  ]);
  return await device.numbers(best, k);
};

/** The `count` highest scores, ties to earlier keys, ascending. */
const highest = (scores: ArrayLike<number>, count: number): readonly number[] =>
  Array.from(scores, (_, i) => i)
    .sort((a, b) => scores[b] - scores[a] || a - b)
    .slice(0, count)
    .sort((a, b) => a - b);

const byPolicy = (
  { keys, queries, tokens, group, headDim }: SelectionHead,
  candidates: number,
  k: number,
): readonly number[] => {
  const index = new ParisIndex(tokens, headDim, 0);
  index.encode(keys, tokens);
  const mean = new Float64Array(headDim);
  for (let i = 0; i < group * headDim; i++) mean[i % headDim] += queries[i] / group;
  index.prepare(mean, RHO);
  const collisions = new Uint16Array(tokens);
  index.collide(collisions);
  const chosen = highest(collisions, candidates);
  const ranking = new Ranking(candidates);
  const count = ranking.best(
    Float32Array.from(chosen, (token) => index.estimate(token)),
    0,
    candidates,
    k,
  );
  return Array.from(ranking.positions.subarray(0, count), (position) => chosen[position]);
};

export const selection = {
  policies: ['pariskv'],
  kernels: ['paris-encode', 'paris-tiers', 'paris-collide', 'paris-select', 'paris-rerank', 'topk'],
  async run(device, head, { k }) {
    const candidates = Math.max(1, Math.ceil(BETA * head.tokens));
    const winners = Math.min(k, candidates);
    return [
      {
        byKernel: await byKernel(device, head, candidates, winners),
        byPolicy: byPolicy(head, candidates, winners),
      },
    ];
  },
} satisfies SelectionCheck;
