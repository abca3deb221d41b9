/**
 * FlexGen's placement of the cache: fixed shares of it in HBM and in DRAM, all of it attended. What lies in DRAM is
 * attended there by the CPU, or loaded layer by layer ahead of the GPU, raw or in 4 bits by groups of 64 channels.
 * arXiv 2303.06865; FMInference/FlexLLMGen flex_opt.py, benchmark/flexllmgen/bench_suite.py (OPT-30B: cache 0 % GPU, 100 %
 * CPU, attention on the CPU; compressed: attention on the GPU). Its disk share, and the linear program that finds the
 * shares for a machine, are left out; shares are of every head's tokens here, of whole sequences of a batch there.
 */
import * as z from 'zod';
import { withScales } from '../codec.ts';
import { type HeadView, type Policy, type PolicyPlugin, policyDefaults } from '../policy.ts';
import type { Transfer } from '../transfer.ts';
import { uniformCodec } from '../uniform-codec.ts';

const config = z
  .object({
    hbmShare: z
      .number()
      .min(0)
      .max(1)
      .default(0)
      .describe('share of the cache in HBM; the rest lies in DRAM'),
    attendAt: z
      .enum(['cpu', 'gpu'])
      .default('cpu')
      .describe('where KV in DRAM is attended: by the CPU, or by the GPU after it was loaded'),
    compress: z
      .boolean()
      .default(false)
      .describe('store all KV quantised per token, as --compress-cache does'),
    compressBits: z.int().min(2).max(8).default(4).describe('bits of an element of compressed KV'),
    compressGroup: z.int().min(1).default(64).describe('channels that share a scale and a minimum'),
    buffers: z
      .int()
      .min(1)
      .max(8)
      .default(2)
      .describe('layer-sized HBM buffers (attendAt gpu); 2 = loads overlap compute, 1 = they do not'),
    mode: z
      .enum(['dma', 'dma-batch', 'pageable'])
      .default('dma')
      .describe('how layers cross the link (attendAt gpu)'),
  })
  .refine((c) => !c.compress || c.attendAt === 'gpu', {
    path: ['attendAt'],
    error: 'expected gpu with compress: compressed KV is attended on the GPU only',
  })
  .refine((c) => !c.compress || c.hbmShare === 0 || c.hbmShare === 1, {
    path: ['hbmShare'],
    error: 'expected 0 or 1 with compress: compressed KV lies on one device',
  });

/** Whether a token is one of the `share` that stay in HBM; of any first n tokens, floor(n · share) do. */
const staysInHbm = (token: number, share: number): boolean =>
  Math.floor((token + 1) * share) > Math.floor(token * share);

/** Tokens that are coded in one piece: groups run along channels, so the piece changes no bytes. */
const PIECE_TOKENS = 64;

/** Compresses tokens [from, to), and moves those to DRAM that belong there. */
const place = (
  heads: readonly HeadView[],
  from: number,
  to: number,
  share: number,
  compress: boolean,
): void => {
  for (const { cache } of heads) {
    if (compress)
      for (let token = from; token < to; token += PIECE_TOKENS)
        cache.recode(token, Math.min(to, token + PIECE_TOKENS), 1);
    for (let token = from; token < to; token++)
      if (!staysInHbm(token, share)) cache.move(token, token + 1, 'dram');
  }
};

export const policy = {
  name: 'flexgen',
  title: 'FlexGen placement',
  family: 'tiering',
  source: 'arXiv 2303.06865; FMInference/FlexLLMGen',
  requires: [],
  prefers: ['k', 'v'],
  config,
  create: (c, world): Policy => {
    const grouping = { bits: c.compressBits, groupTokens: 1, groupChannels: c.compressGroup };
    const coded = withScales(
      uniformCodec('compressed', `${c.compressBits}-bit, per token`, grouping, grouping),
      1,
    );
    const tokenBytes = c.compress
      ? coded.kBytesPerToken(world.headDim) + coded.vBytesPerToken(world.headDim)
      : world.kBytesPerToken + world.vBytesPerToken;
    const whole = { mode: c.mode, rowTokens: Infinity, joinHeads: true, joinKv: true };
    const transfer: Transfer =
      c.attendAt === 'cpu'
        ? { ...whole, overlap: 'step', attendAt: 'cpu' }
        : { ...whole, overlap: 'ahead', buffers: c.buffers };
    const loadedTokens = c.attendAt === 'cpu' ? 0 : c.buffers * Math.ceil((1 - c.hbmShare) * world.maxTokens);
    return {
      ...policyDefaults,
      codecs: c.compress ? [coded] : [],
      transfer,
      stagingBytes: loadedTokens * world.kvHeads * tokenBytes,
      layer: () => ({
        onPrefill: ({ heads, length }) => place(heads, 0, length, c.hbmShare, c.compress),
        // The step's own token is attended from HBM; it is stored when the next one arrives.
        onAppend: ({ heads, length }) =>
          place(heads, Math.max(world.promptTokens, length - 2), length - 1, c.hbmShare, c.compress),
      }),
    };
  },
} satisfies PolicyPlugin<typeof config>;
