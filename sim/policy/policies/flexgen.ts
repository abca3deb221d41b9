/**
 * FlexGen's placement of the cache: fixed shares of it in HBM, in DRAM and on NVMe, all of it attended. What lies outside HBM
 * is attended by the CPU, or loaded layer by layer ahead of the GPU, raw or in 4 bits by groups of 64 channels; what
 * lies on NVMe comes to DRAM first, ahead of its layer. arXiv 2303.06865 (sections 3 and 4); FMInference/FlexLLMGen
 * flex_opt.py (--percent: GPU and CPU shares of the cache, the rest on disk; OPT-30B: 0 and 100, attention on the CPU;
 * compressed: attention on the GPU). Shares are of every head's tokens here, of whole sequences of a batch there; the
 * linear program that finds them for a machine is sim/plan/flexgen-machine.ts: a policy sees no time.
 */
import * as z from 'zod';
import type { KvTier } from '../../memory/head-cache.ts';
import { type Unpacking, withScales } from '../codec.ts';
import { type HeadView, type Policy, type PolicyPlugin, policyDefaults, type World } from '../policy.ts';
import type { Transfer } from '../transfer.ts';
import { uniformCodec } from '../uniform-codec.ts';

const config = z
  .object({
    hbmShare: z
      .number()
      .min(0)
      .max(1)
      .default(0)
      .describe('share of the cache in HBM; what is neither there nor on NVMe lies in DRAM'),
    nvmeShare: z.number().min(0).max(1).default(0).describe('share of the cache on NVMe'),
    attendAt: z
      .enum(['cpu', 'gpu'])
      .default('cpu')
      .describe('where KV outside HBM is attended: by the CPU, or by the GPU after it was loaded'),
    compress: z
      .boolean()
      .default(false)
      .describe('store all KV quantised per token, as --compress-cache does'),
    compressBits: z.int().min(2).max(8).default(4).describe('bits of an element of compressed KV'),
    compressGroup: z.int().min(1).default(64).describe('channels that share a scale and a minimum'),
    fused: z
      .boolean()
      .default(false)
      .describe('attention decodes what it reads; else passes of their own do before, as published'),
    buffers: z
      .int()
      .min(1)
      .max(8)
      .default(2)
      .describe(
        'layer-sized buffers, in HBM for what the GPU attends (attendAt gpu) and in DRAM for what comes from NVMe; 2 = loads overlap compute, 1 = they do not',
      ),
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
  })
  .refine((c) => !c.compress || c.nvmeShare === 0 || c.nvmeShare === 1, {
    path: ['nvmeShare'],
    error: 'expected 0 or 1 with compress: compressed KV lies on one device',
  })
  .refine((c) => c.hbmShare + c.nvmeShare <= 1 + 1e-9, {
    path: ['nvmeShare'],
    error: 'expected at most what hbmShare leaves',
  });
type Config = z.infer<typeof config>;

/** Whether the i-th is one of a share that is spread evenly: of any first n, floor(n · share) are. */
const isOneOf = (i: number, share: number): boolean => Math.floor((i + 1) * share) > Math.floor(i * share);

/** Where a token of the cache lies. Of what is not in HBM, NVMe holds its share evenly, too. */
const tierOf = (token: number, { hbmShare, nvmeShare }: Config): KvTier => {
  if (isOneOf(token, hbmShare)) return 'hbm';
  // The margin takes back what the division may have rounded off.
  const ofRest = hbmShare === 1 ? 0 : Math.min(1, (nvmeShare / (1 - hbmShare)) * (1 + 1e-12));
  return isOneOf(token - Math.floor(token * hbmShare), ofRest) ? 'nvme' : 'dram';
};

/** Tokens that are coded in one piece: groups run along channels, so the piece changes no bytes. */
const PIECE_TOKENS = 64;

/** Compresses tokens [from, to), and moves those out that do not belong in HBM. */
const place = (heads: readonly HeadView[], from: number, to: number, c: Config): void => {
  for (const { cache } of heads) {
    if (c.compress)
      for (let token = from; token < to; token += PIECE_TOKENS)
        cache.recode(token, Math.min(to, token + PIECE_TOKENS), 1);
    for (let token = from; token < to; token++) {
      const tier = tierOf(token, c);
      if (tier !== 'hbm') cache.move(token, token + 1, tier);
    }
  }
};

/**
 * Passes over all that is attended (flexllmgen/compression.py decompress, pytorch_backend.py mha_gen): codes are shifted,
 * masked and written as rows, the rows divided by their scale, moved by their minimum, and laid out for the products.
 * With two codes a byte a packed row is a quarter of a row; bytes go in and come out as codes twice, then as rows.
 */
const unpackingOf = ({ kBytesPerToken, vBytesPerToken }: World, codedBytes: number): Unpacking => {
  const rowBytes = kBytesPerToken + vBytesPerToken;
  return {
    readBytesPerToken: 2 * (codedBytes + rowBytes / 4) + 3 * rowBytes,
    writeBytesPerToken: 2 * (rowBytes / 4 + rowBytes / 2) + 3 * rowBytes,
  };
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
    const fused = withScales(
      uniformCodec('compressed', `${c.compressBits}-bit, per token`, grouping, grouping),
      1,
    );
    const tokenBytes = c.compress
      ? fused.kBytesPerToken(world.headDim) + fused.vBytesPerToken(world.headDim)
      : world.kBytesPerToken + world.vBytesPerToken;
    const unpacks = c.compress && !c.fused;
    const coded = unpacks ? { ...fused, unpacking: unpackingOf(world, tokenBytes) } : fused;
    const rowBytes = unpacks ? world.kBytesPerToken + world.vBytesPerToken : 0;
    const onCpu = c.attendAt === 'cpu';
    const transfer: Transfer = {
      mode: c.mode,
      rowTokens: Infinity,
      joinHeads: true,
      joinKv: true,
      overlap: 'ahead',
      buffers: c.buffers,
      ...(onCpu ? { attendAt: 'cpu' } : {}),
    };
    const layerTokens = world.maxTokens * world.kvHeads;
    const layerBytes = layerTokens * tokenBytes;
    return {
      ...policyDefaults,
      codecs: c.compress ? [coded] : [],
      transfer,
      // Buffers of a layer; and one layer's rows as attention reads them.
      stagingBytes: onCpu ? 0 : Math.ceil(c.buffers * (1 - c.hbmShare) * layerBytes) + layerTokens * rowBytes,
      hostStagingBytes: Math.ceil(c.buffers * c.nvmeShare * layerBytes),
      layer: () => ({
        onPrefill: ({ heads, length }) => place(heads, 0, length, c),
        // The step's own token is attended from HBM; it is stored when the next one arrives.
        onAppend: ({ heads, length }) =>
          place(heads, Math.max(world.promptTokens, length - 2), length - 1, c),
      }),
    };
  },
} satisfies PolicyPlugin<typeof config>;
