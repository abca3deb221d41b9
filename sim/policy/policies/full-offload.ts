/**
 * Full attention with all KV in DRAM: each layer's KV is loaded into one of a few layer-sized HBM buffers while
 * earlier layers compute (layer-wise double buffering, as FlexGen and DeepSpeed-Inference do).
 * Nothing depends on the query, so loads run ahead across layers and steps.
 */
import * as z from 'zod';
import { type Policy, type PolicyPlugin, policyDefaults } from '../policy.ts';

const config = z.object({
  buffers: z
    .int()
    .min(1)
    .max(8)
    .default(2)
    .describe('layer-sized HBM buffers; 2 = double buffering, 1 = no overlap'),
  mode: z.enum(['dma', 'dma-batch', 'pageable']).default('dma').describe('how layers cross the link'),
});

export const policy = {
  name: 'full-offload',
  title: 'Full attention, KV in DRAM',
  family: 'tiering',
  source: 'FlexGen (arXiv 2303.06865), layer-wise double-buffered streaming',
  requires: [],
  config,
  create: ({ buffers, mode }, world): Policy => ({
    ...policyDefaults,
    transfer: { mode, rowTokens: Infinity, joinHeads: true, joinKv: true, overlap: 'ahead', buffers },
    stagingBytes: buffers * world.maxTokens * world.kvHeads * (world.kBytesPerToken + world.vBytesPerToken),
    layer: () => ({
      onPrefill(view) {
        for (const head of view.heads) head.cache.move(0, view.length, 'dram');
      },
      onAppend(view) {
        // The step's own token is attended from HBM; it leaves when the next one arrives.
        for (const head of view.heads) head.cache.move(view.length - 2, view.length - 1, 'dram');
      },
    }),
  }),
} satisfies PolicyPlugin<typeof config>;
