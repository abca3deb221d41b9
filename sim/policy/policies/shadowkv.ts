/**
 * ShadowKV: keys before RoPE are low-rank, so HBM keeps their factors and a landmark a chunk; values lie in DRAM and only
 * those of the chosen chunks cross, while their keys are rebuilt. Chunks with outliers stay raw, and so do the prompt's
 * end and all generated tokens. arXiv 2410.21465; bytedance/ShadowKV kv_cache.py ShadowKVCache_CPU (rank 160 over all KV
 * heads, chunk 8, budget 2048, 24 outlier chunks per 1024 of it, 4 local chunks, maximum over the group).
 */
import * as z from 'zod';
import { SimError } from '../../error.ts';
import type { Codec } from '../codec.ts';
import { LandmarkChunks } from '../landmark-chunks.ts';
import { LowRankKeys } from '../low-rank-keys.ts';
import { type Policy, type PolicyPlugin, type PrefillView, policyDefaults, type World } from '../policy.ts';

const config = z
  .object({
    chunkTokens: z.int().min(1).default(8).describe('tokens of one chunk'),
    budgetTokens: z.int().min(1).default(2048).describe('tokens chosen per KV head, whole chunks'),
    rank: z
      .int()
      .min(1)
      .default(160)
      .describe('numbers of a factored key, shared by all KV heads of a layer'),
    outlierChunks: z
      .int()
      .min(0)
      .nullable()
      .default(null)
      .describe('chunks kept raw per KV head; null = 24 for every 1024 tokens of the budget'),
    localChunks: z.int().min(0).default(4).describe('last chunks of the prompt, kept raw'),
    chunkGroup: z
      .int()
      .min(1)
      .default(8)
      .describe('chosen from are whole groups of this many chunks; what is left of the prompt stays raw'),
    denseLayers: z.int().min(0).default(0).describe('first layers with full attention'),
    reduce: z
      .enum(['max', 'mean', 'sum'])
      .default('max')
      .describe('one score of a query group, after each softmax'),
    hotChunks: z
      .int()
      .min(0)
      .default(0)
      .describe(
        "HBM slots per KV head, least recently chosen chunks leave first; 0 = just each step's choice",
      ),
    fitTokens: z
      .int()
      .min(256)
      .default(16384)
      .describe('prompt tokens, evenly spaced, that the directions are fitted on; all of them there'),
    mode: z.enum(['uva', 'cpu-gather', 'dma-batch']).default('uva').describe('how values cross the link'),
  })
  .refine((c) => c.budgetTokens % c.chunkTokens === 0, {
    path: ['budgetTokens'],
    error: 'expected a multiple of chunkTokens',
  });

/** Chunks that are kept raw for every 1024 tokens of the budget. */
const OUTLIERS_PER_1024 = 24;

/** Keys are factors in HBM (`key-factors`), rebuilt by declared work: what is stored and crosses are raw values. */
const lowRankForm = (
  world: World,
  decodeKeys: (keys: Float32Array, from: number, tokens: number, out: Float32Array) => void,
): Codec => ({
  name: 'low-rank-keys',
  title: 'raw values; keys as low-rank factors',
  kBytesPerToken: () => 0,
  vBytesPerToken: () => world.vBytesPerToken,
  scaleBytes: () => 0,
  decodeFlopsPerToken: () => 0,
  isRebuilt: true,
  keeps: 'values',
  encode: (keys, values, headDim, from, tokens) => ({
    tokens,
    decodeKeys: (out) => decodeKeys(keys, from, tokens, out),
    decodeValues: (out) => out.set(values.subarray(from * headDim, (from + tokens) * headDim)),
  }),
});

const inputsOf = (world: World, heads: number): string => {
  const fallbacks = [
    ...(world.rope ? [] : ['keys factored after RoPE (the trace names no rotation)']),
    ...(world.fields.has('qprompt') ? [] : ['no slots filled before the first step (no prompt queries)']),
    ...(heads < world.kvHeads
      ? [`keys of ${heads} of ${world.kvHeads} KV heads factored, rank in proportion`]
      : []),
  ];
  return fallbacks.length === 0 ? 'exact' : fallbacks.join('; ');
};

export const policy = {
  name: 'shadowkv',
  title: 'ShadowKV',
  family: 'tiering',
  source: 'arXiv 2410.21465; bytedance/ShadowKV',
  requires: ['k', 'q'],
  prefers: ['v', 'qprompt'],
  config,
  atBudget: (tokens) => {
    const chunks = Math.floor(tokens / 8);
    const localChunks = Math.min(4, chunks >> 3);
    // The end of the prompt that fills no chunk takes the room of one; outliers and choice share the rest as published.
    const spare = chunks - 1 - localChunks;
    const outlierChunks = Math.floor((spare * OUTLIERS_PER_1024) / (OUTLIERS_PER_1024 + 1024 / 8));
    const budgetTokens = 8 * (spare - outlierChunks);
    return { budgetTokens, outlierChunks, localChunks, chunkGroup: 1, denseLayers: 0 };
  },
  create: (c, world): Policy => {
    const { headDim, kvHeads, kBytesPerToken, vBytesPerToken, groupSize } = world;
    if (vBytesPerToken === 0)
      throw new SimError(
        'not-supported',
        'policy shadowkv: expected a model that caches values beside keys, found latent rows (MLA)',
      );
    const heads = world.replayed?.kvHeads.length ?? kvHeads;
    const rank = Math.min(c.rank, kvHeads * headDim);
    const rankHere = Math.max(1, Math.round((rank * heads) / kvHeads));
    /** Factored keys by the keys that they were made from. */
    const factored = new WeakMap<Float32Array, { readonly rows: LowRankKeys; readonly at: number }>();
    const factor = (view: PrefillView): void => {
      const [{ random }] = view.heads;
      const rope = world.rope ?? null;
      const options = { heads: view.heads, headDim, tokens: view.length, rank: rankHere, rope, random };
      const rows = new LowRankKeys({ ...options, fitTokens: c.fitTokens });
      view.heads.forEach(({ keys }, at) => {
        factored.set(keys, { rows, at });
      });
    };
    const codec = lowRankForm(world, (keys, from, tokens, out) => {
      const head = factored.get(keys);
      head?.rows.rebuildInto(head.at, from, tokens, out);
    });
    const outliers = c.outlierChunks ?? Math.floor(c.budgetTokens / 1024) * OUTLIERS_PER_1024;
    const channels = kvHeads * headDim;
    return {
      ...policyDefaults,
      codecs: [codec],
      inputs: inputsOf(world, heads),
      isDenseLayer: (layer) => layer < c.denseLayers,
      transfer: { mode: c.mode, rowTokens: c.chunkTokens, joinHeads: false, joinKv: true, overlap: 'step' },
      prefillWork: [
        {
          // Singular vectors of a tall matrix: 6 m n² flops (Golub and Van Loan, figure 8.6.1), of which a head has its share.
          index: 'singular-vectors',
          readBytes: { hbm: kBytesPerToken },
          writeBytes: { hbm: (rank * kBytesPerToken) / channels },
          flops: (6 * channels * channels) / kvHeads,
          kernels: 3,
        },
        {
          index: 'landmarks',
          readBytes: { hbm: 2 * kBytesPerToken },
          writeBytes: { hbm: kBytesPerToken / c.chunkTokens },
          flops: 5 * headDim + (2 * headDim * groupSize) / c.chunkTokens,
          kernels: 6,
        },
      ],
      layer: () => new LandmarkChunks({ ...c, outliers, rank, factor }, world),
    };
  },
} satisfies PolicyPlugin<typeof config>;
