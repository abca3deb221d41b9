/**
 * InfiniGen: all KV in DRAM; while a layer computes, the next one's attention is rehearsed with a few skewed columns of
 * its queries and keys (kept in HBM), and only the tokens that this finds are gathered by the CPU and prefetched.
 * arXiv 2406.19707; snu-comparch/InfiniGen (20 % of columns, alpha 4 for OPT and 5 for Llama, at most 20 % of tokens,
 * from layer 2 on; the layers before stay in HBM here, and are streamed whole there). Its models have one query head a
 * KV head; with groups, the union of their choices crosses unless `fetchPer` says otherwise.
 */
import * as z from 'zod';
import { type Policy, type PolicyPlugin, policyDefaults } from '../policy.ts';
import { possibleVote } from '../prompt-eviction.ts';
import { guessFields, guessInputs } from '../query-guess.ts';
import { Rehearsal } from '../rehearsal.ts';
import { columnInputs } from '../skewed-columns.ts';

const config = z
  .object({
    partialRatio: z
      .number()
      .positive()
      .max(1)
      .default(0.2)
      .describe('share of columns that the rehearsal uses'),
    skew: z
      .boolean()
      .default(true)
      .describe(
        "turn queries and keys by singular vectors first (of the prompt's last queries; offline there)",
      ),
    alpha: z
      .number()
      .min(0)
      .default(5)
      .describe('a rehearsed logit counts when it is less than this below the largest (OPT: 4)'),
    maxShare: z
      .number()
      .positive()
      .max(1)
      .default(0.2)
      .describe('share of the tokens that is fetched at most'),
    maxTokens: z
      .int()
      .min(1)
      .nullable()
      .default(null)
      .describe('tokens that are fetched at most; null = by share'),
    denseLayers: z.int().min(0).default(2).describe('first layers with full attention'),
    group: z
      .enum(['per-query', 'max', 'mean'])
      .default('per-query')
      .describe('who chooses: each query head, or the group'),
    fetchPer: z
      .enum(['kv-head', 'query-head'])
      .default('kv-head')
      .describe('a token that several query heads of a group chose crosses once, or once for each'),
    hotTokens: z
      .int()
      .min(0)
      .default(0)
      .describe(
        'HBM slots per KV head, least recently chosen tokens leave first; 0 = fetched anew each step',
      ),
    poolTokens: z
      .int()
      .min(1)
      .nullable()
      .default(null)
      .describe('tokens that DRAM holds per KV head; null = all, as in most of the paper'),
    victim: z
      .enum(['counter', 'lru', 'fifo'])
      .default('counter')
      .describe(
        'what leaves a full pool, of its older half: the least often fetched, the longest not fetched, the oldest',
      ),
    leadLayers: z.int().min(0).default(1).describe('layers by which rehearsal and fetch run ahead'),
    mode: z
      .enum(['cpu-gather', 'uva', 'dma-batch'])
      .default('cpu-gather')
      .describe('how tokens cross the link'),
    ...guessFields,
  })
  .refine((c) => c.fetchPer === 'kv-head' || c.hotTokens === 0, {
    path: ['hotTokens'],
    error: 'expected 0 with fetchPer query-head, whose copies have no slots',
  });
type Config = z.infer<typeof config>;

export const policy = {
  name: 'infinigen',
  title: 'InfiniGen',
  family: 'tiering',
  source: 'arXiv 2406.19707; snu-comparch/InfiniGen',
  requires: ['k', 'q'],
  prefers: ['qprompt'],
  config,
  atBudget: (tokens) => ({ maxTokens: tokens - 1, maxShare: 1, alpha: 1e9, denseLayers: 0 }),
  create: (given, world): Policy => {
    const c: Config = { ...given, group: possibleVote(given.group, world) };
    const { headDim, groupSize, kvHeads, heads, maxTokens } = world;
    const choosers = c.group === 'per-query' ? groupSize : 1;
    const columns = Math.max(1, Math.floor(c.partialRatio * headDim));
    const partialBytes = (columns * world.kBytesPerToken) / headDim;
    const capAt = (n: number) => Math.max(1, Math.min(c.maxTokens ?? n, Math.floor(c.maxShare * n)));
    const stagedTokens = Math.min(maxTokens, choosers * capAt(maxTokens));
    // Partial query weights, as if the hidden width were heads · headDim.
    const weightBytes = partialBytes * heads * heads * headDim;
    const fallbacks = [
      guessInputs(c, c.leadLayers, c.denseLayers, world),
      columnInputs(c.skew, world),
      ...(c.group !== given.group && groupSize > 1
        ? [`one choice a group: ${groupSize} query heads share a KV head`]
        : []),
    ];
    return {
      ...policyDefaults,
      inputs: fallbacks.filter((line) => line !== '').join('; '),
      isDenseLayer: (layer) => layer < c.denseLayers,
      replicated: c.fetchPer === 'query-head' && choosers > 1,
      transfer: {
        mode: c.mode,
        rowTokens: 1,
        joinHeads: false,
        joinKv: false,
        overlap: 'step',
        leadLayers: c.leadLayers,
      },
      stagingBytes:
        (c.leadLayers + 1) * stagedTokens * kvHeads * (world.kBytesPerToken + world.vBytesPerToken),
      weightBytes: weightBytes * Math.max(0, world.layers - c.denseLayers),
      prefillWork: [
        {
          index: 'partial-keys',
          readBytes: { hbm: world.kBytesPerToken },
          writeBytes: { hbm: partialBytes },
          flops: 0,
          kernels: 2,
        },
      ],
      layer: () => new Rehearsal({ ...c, columns, weightBytes, capAt }, world),
    };
  },
} satisfies PolicyPlugin<typeof config>;
