/**
 * DeltaKV: few layers keep all KV; the others keep sinks, recent tokens and every 10th token whole and the rest as quantised
 * residuals to their nearest such references. A full layer's logits choose the tokens that the layers after it rebuild and
 * attend to, so latents kept in DRAM can be fetched ahead. arXiv 2602.08005; CURRENTF/Sparse-vLLM at d526f0a (config.py,
 * engine/cache_manager.py, engine/sparse_controller.py); defaults of its evaluation scripts.
 */
import * as z from 'zod';
import { codeBeforeRope } from '../coded-tail.ts';
import { deltaCosts, observedLogits, ownLogits, perToken } from '../deltakv-cost.ts';
import { DeltaKvLayer, latentsIn } from '../deltakv-layer.ts';
import { fullLayersOf, observationLayerOf } from '../full-layers.ts';
import { ObservedChoice } from '../observed-choice.ts';
import { type Policy, type PolicyPlugin, policyDefaults, type World } from '../policy.ts';
import { ReferencePlan } from '../reference-plan.ts';
import { residualCodec } from '../reference-residual.ts';
import { searchInputs } from '../reference-search.ts';

const config = z.object({
  fullLayers: z
    .union([z.string().regex(/^(\d+(,\d+)*)?$/, 'expected layer numbers, as in 0,1,2,8,18'), z.int().min(0)])
    .optional()
    .describe(
      'layers that keep all KV, comma-separated; default: as published for models of 28, 32 and 64 layers',
    ),
  fullTokens: z
    .int()
    .min(1)
    .optional()
    .describe('tokens that a full layer attends to, the best by its own logits; default: all'),
  sinkTokens: z.int().min(1).default(8).describe('first tokens, always whole and attended'),
  recentTokens: z
    .int()
    .min(1)
    .default(128)
    .describe('recent tokens that stay whole, and size of a compressed block'),
  topTokens: z.int().min(1).default(2048).describe('compressed tokens attended at a step'),
  topShare: z
    .number()
    .positive()
    .max(1)
    .optional()
    .describe('share of the compressed tokens instead of a count'),
  prefillTopTokens: z
    .int()
    .min(1)
    .default(4096)
    .describe('compressed tokens that a chunk of the prompt attends to'),
  chunkTokens: z.int().min(1).default(8192).describe('tokens of a prompt chunk'),
  centreStride: z
    .int()
    .min(1)
    .default(10)
    .describe('every so many compressed tokens one stays whole as a reference'),
  neighbours: z.int().min(1).default(4).describe('references of a residual'),
  metric: z.enum(['l2', 'dot', 'cosine']).default('l2').describe('how the nearest references are found'),
  latentDim: z
    .int()
    .min(1)
    .optional()
    .describe('values of a residual, all heads; default: a quarter of K and V'),
  latentBits: z.literal([2, 4, 8, 16]).default(4).describe('bits of a value'),
  downHidden: z
    .int()
    .min(1)
    .default(3072)
    .describe('hidden width of the trained down-projection (cost only)'),
  latents: z.enum(['hbm', 'dram']).default('hbm').describe('where residuals live'),
  mode: z
    .enum(['cpu-gather', 'uva'])
    .default('cpu-gather')
    .describe('how chosen residuals cross the link (dram)'),
  prefetchLayers: z.int().min(0).default(1).describe('layers by which residuals are fetched ahead (dram)'),
});
/** What the result says of compressor and observation layers. */
const inputsOf = (
  full: ReadonlySet<number>,
  plan: ReferencePlan,
  { fields, rope, recordedLayers, replayed, layers }: World,
): string => {
  const compressor = fields.has('v')
    ? `principal directions of each head's own residuals${rope ? '' : ', keys as rotated,'} instead of the trained compressor`
    : 'no values: error of residuals not measured';
  const seen = replayed?.layers ?? Array.from({ length: layers }, (_, layer) => layer);
  const sparse = seen.filter((layer) => !full.has(layer));
  // Where only full layers are recorded, one of them shows what a sparse layer would do.
  const blind = (sparse.length > 0 ? sparse : seen).filter((layer) => {
    const observer = observationLayerOf(layer, full);
    return observer !== null && recordedLayers !== undefined && !recordedLayers.includes(observer);
  });
  const stands = `${compressor}; ${searchInputs(plan)}`;
  if (blind.length === 0) return stands;
  return `${stands}; layers ${blind.join(', ')} choose by their own queries, as their observation layers are not recorded`;
};

export const policy = {
  name: 'deltakv',
  title: 'DeltaKV',
  family: 'compression',
  source: 'arXiv 2602.08005; CURRENTF/Sparse-vLLM',
  requires: ['k', 'q'],
  prefers: ['v'],
  config,
  atBudget: (tokens) => {
    const recentTokens = Math.max(1, Math.floor(tokens / 8));
    const sinkTokens = Math.min(8, recentTokens);
    // Full layers stay, because they choose for the others; what they attend to is their own choice, too.
    const topTokens = Math.max(1, tokens - sinkTokens - 2 * recentTokens);
    return { recentTokens, sinkTokens, topTokens, fullTokens: tokens };
  },
  create: (c, world): Policy => {
    const { promptTokens, maxTokens, kvHeads } = world;
    const full = fullLayersOf(c.fullLayers, world.layers);
    const sparseLayers = world.layers - full.size;
    const rowBytes = world.kBytesPerToken + world.vBytesPerToken;
    const width = (rowBytes / world.kBytesPerToken) * world.headDim * kvHeads;
    const latentDim = c.latentDim ?? Math.ceil(width / 4);
    const plan = new ReferencePlan({ ...c, stride: c.centreStride, promptTokens, maxTokens });
    // A residual has no more references than there are.
    const neighbours = Math.min(c.neighbours, plan.references.length);
    const costs = deltaCosts({ latentDim, bits: c.latentBits, neighbours, hidden: c.downHidden }, world);
    const residual = residualCodec(
      {
        rank: Math.max(1, Math.round(latentDim / kvHeads)),
        bits: c.latentBits,
        neighbours,
        metric: c.metric,
        payloadBytes: costs.payloadBytes,
      },
      plan,
    );
    const choice = new ObservedChoice(world);
    const inDram = c.latents === 'dram';
    const compressed = latentsIn(plan, c.sinkTokens, plan.endAt(promptTokens));
    const references = plan.countBefore(promptTokens);
    const chunks = Math.ceil(promptTokens / c.chunkTokens);
    const rebuilt = Math.min(c.prefillTopTokens, compressed) * (chunks - 1);
    const isAhead = inDram && c.prefetchLayers > 0 && full.size > 0;
    return {
      ...policyDefaults,
      codecs: [world.rope ? codeBeforeRope(residual, world.rope) : residual],
      transfer: {
        mode: c.mode,
        rowTokens: 1,
        joinHeads: true,
        joinKv: true,
        overlap: isAhead ? 'ahead' : 'step',
        buffers: c.prefetchLayers + 1,
      },
      inputs: inputsOf(full, plan, world),
      isDenseLayer: (layer) => full.has(layer),
      choiceLayer: (layer) => observationLayerOf(layer, full),
      denseWork(layer, tokens) {
        if (!full.has(layer)) return null;
        const { fullTokens = tokens } = c;
        const topk = (k: number) => ({ of: tokens, k: Math.min(k, tokens), rows: 1 / kvHeads });
        if (fullTokens < tokens)
          return { works: [ownLogits(tokens, world)], topk: topk(fullTokens), attendTokens: fullTokens };
        const observes = layer + 1 < world.layers && !full.has(layer + 1);
        return observes ? { works: [observedLogits(tokens, world)], topk: topk(c.topTokens) } : null;
      },
      weightBytes: costs.layerWeightBytes * sparseLayers,
      // Scratch rows of one layer, and residuals under way.
      stagingBytes:
        Math.min(c.topTokens, compressed) *
        kvHeads *
        (rowBytes + (inDram ? (c.prefetchLayers + 1) * costs.payloadBytes : 0)),
      prefillWork: [
        perToken(costs.compress(compressed, references / 2, chunks), promptTokens),
        ...(rebuilt > 0
          ? [perToken({ ...costs.rebuild(rebuilt), kernels: 4 * (chunks - 1) }, promptTokens)]
          : []),
      ],
      layer: (layer) => {
        choice.begin(layer);
        const observer = observationLayerOf(layer, full);
        return new DeltaKvLayer({ ...c, observer, plan, choice, costs }, world);
      },
    };
  },
} satisfies PolicyPlugin<typeof config>;
