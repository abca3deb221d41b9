/**
 * ArkVale: pages are copied to DRAM when full and leave HBM when their slots run out; every step, digests of all pages
 * say which of the absent ones are recalled into the slots of the least wanted. Attention reads whatever has a slot.
 * NeurIPS 2024; pku-liang/ArkVale (infer_state.py, kv_cache.py, select.cu): page 32, 128 slots, top 32, one choice for
 * all heads of a layer by the mean of their scores; layers 0-1 unlimited in its longbench_pred.py.
 */
import * as z from 'zod';
import { PageRecall } from '../page-recall.ts';
import { type Policy, type PolicyPlugin, policyDefaults } from '../policy.ts';
import { guessFields, guessInputs } from '../query-guess.ts';

const config = z
  .object({
    pageTokens: z.int().min(1).default(32).describe('tokens of one page'),
    budgetPages: z
      .int()
      .min(1)
      .default(128)
      .describe('HBM slots per KV head, sink and window pages included'),
    topkPages: z
      .int()
      .min(1)
      .default(32)
      .describe('best pages that must have a slot, sink and full window pages included'),
    sinkPages: z.int().min(0).default(2).describe('first pages, always in HBM'),
    windowPages: z
      .int()
      .min(2)
      .default(2)
      .describe('last pages, the one being written included, always in HBM'),
    denseLayers: z.int().min(0).default(2).describe('first layers with full attention'),
    digest: z
      .enum(['cuboid-mean', 'cuboid'])
      .default('cuboid-mean')
      .describe('centre ± mean deviation of the keys of a page, or their exact bounds'),
    reduce: z
      .enum(['mean', 'max'])
      .default('mean')
      .describe('one score of the query heads that choose together'),
    selectPer: z.enum(['layer', 'head']).default('layer').describe('one choice a layer, or one a KV head'),
    attend: z
      .enum(['resident', 'top'])
      .default('resident')
      .describe(
        'attention over all pages with a slot, as released, or over sink, window and best pages only',
      ),
    prefetchLayers: z
      .int()
      .min(0)
      .default(0)
      .describe('layers by which choice and recall run ahead; 0 = off'),
    mode: z.enum(['dma', 'dma-batch', 'uva']).default('dma').describe('how recalled pages cross the link'),
    ...guessFields,
  })
  .refine((c) => c.topkPages >= c.sinkPages + c.windowPages, {
    path: ['topkPages'],
    error: 'expected at least sinkPages + windowPages',
  })
  .refine((c) => c.budgetPages > c.topkPages, {
    path: ['budgetPages'],
    error: 'expected more than topkPages',
  });

/** Passes over the keys of a page, and kernels, that its digest takes: bounds, deviations, mean (PyTorch operations). */
const DIGEST_PASSES = 3;
const DIGEST_KERNELS = 6;

export const policy = {
  name: 'arkvale',
  title: 'ArkVale',
  family: 'tiering',
  source: 'NeurIPS 2024; pku-liang/ArkVale',
  requires: ['k', 'q'],
  prefers: ['qprompt'],
  config,
  atBudget: (tokens) => {
    // Eight pages at least, so that sink, window and best pages find room.
    const pageTokens = Math.min(32, Math.floor(tokens / 8));
    const budgetPages = Math.floor(tokens / pageTokens);
    return { pageTokens, budgetPages, topkPages: Math.max(5, budgetPages >> 2), denseLayers: 0 };
  },
  create: (c, world): Policy => {
    const fallbacks = [
      ...(world.fields.has('qprompt') ? [] : ['most recent pages kept after the prompt (no prompt queries)']),
      ...(c.prefetchLayers > 0 ? [guessInputs(c, c.prefetchLayers, c.denseLayers, world)] : []),
    ];
    return {
      ...policyDefaults,
      inputs: fallbacks.length === 0 ? 'exact' : fallbacks.join('; '),
      isDenseLayer: (layer) => layer < c.denseLayers,
      transfer: {
        mode: c.mode,
        rowTokens: c.pageTokens,
        joinHeads: c.selectPer === 'layer',
        joinKv: true,
        overlap: 'step',
        leadLayers: c.prefetchLayers,
      },
      prefillWork: [
        {
          index: 'page-digests',
          readBytes: { hbm: DIGEST_PASSES * world.kBytesPerToken },
          writeBytes: { hbm: (2 * world.kBytesPerToken) / c.pageTokens },
          flops: 5 * world.headDim,
          kernels: DIGEST_KERNELS,
        },
      ],
      layer: () => new PageRecall(c, world),
    };
  },
} satisfies PolicyPlugin<typeof config>;
