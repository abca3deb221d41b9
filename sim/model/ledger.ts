/**
 * The ledger of a model: bytes that tokens leave in the cache, parameters and weight bytes, attention flops.
 * Exact integers; parameter totals are checked against the published checkpoints in ledger.test.ts.
 */
import type { ModelShape } from './shape.ts';

/** Bytes of one token's K and V (or latent) row in one KV head. `elementBytes` = 2 for bf16. */
export const kvRowBytes = (shape: ModelShape, elementBytes: number): number =>
  shape.kvRowElements * elementBytes;

/** Bytes that one token adds to one layer, all KV heads. */
export const kvBytesPerTokenLayer = (shape: ModelShape, elementBytes: number): number =>
  shape.kvHeads * kvRowBytes(shape, elementBytes);

/** Bytes that one token adds to the cache over all layers, before any sliding window drops it. */
export const kvBytesPerToken = (shape: ModelShape, elementBytes: number): number =>
  shape.layers * kvBytesPerTokenLayer(shape, elementBytes);

/** Tokens that a layer keeps and attends to at a context length: all, or the last window. */
export const layerContextTokens = (shape: ModelShape, layer: number, contextTokens: number): number =>
  shape.layerKinds[layer] === 'sliding' && shape.slidingWindowTokens !== null
    ? Math.min(contextTokens, shape.slidingWindowTokens)
    : contextTokens;

/** KV bytes that one sequence keeps at a context length, sliding layers capped by their window. */
export const kvBytesAt = (shape: ModelShape, contextTokens: number, elementBytes: number): number => {
  let tokens = 0;
  for (let layer = 0; layer < shape.layers; layer += 1)
    tokens += layerContextTokens(shape, layer, contextTokens);
  return tokens * kvBytesPerTokenLayer(shape, elementBytes);
};

/** Parameters of the attention of one layer, biases and per-head norms included. */
const attentionParameters = (shape: ModelShape): number => {
  const { hidden, heads, kvHeads, headDim, mla, small } = shape;
  if (mla) {
    const queryWidth = heads * (mla.nopeHeadDim + mla.ropeHeadDim);
    const query = mla.queryRank
      ? hidden * mla.queryRank + mla.queryRank + mla.queryRank * queryWidth
      : hidden * queryWidth;
    const down = hidden * (mla.latentRank + mla.ropeHeadDim) + mla.latentRank;
    const up = mla.latentRank * heads * (mla.nopeHeadDim + mla.upValueHeadDim);
    return query + down + up + heads * mla.upValueHeadDim * hidden;
  }
  const queryKeyValue = (heads + 2 * kvHeads) * headDim;
  const bias = (small.queryKeyValueBias ? queryKeyValue : 0) + (small.outputBias ? hidden : 0);
  const norms = small.queryKeyNorm ? 2 * headDim : 0;
  return hidden * queryKeyValue + heads * headDim * hidden + bias + norms;
};

const gatedMlpParameters = (hidden: number, intermediate: number): number => 3 * hidden * intermediate;

const mlpParameters = (shape: ModelShape, layer: number): number => {
  const { hidden, intermediate, moe } = shape;
  if (moe?.layers[layer]) {
    const router = hidden * moe.experts + (moe.routerBias ? moe.experts : 0);
    const shared = gatedMlpParameters(hidden, moe.sharedIntermediate) + (moe.sharedGate ? hidden : 0);
    return router + shared + moe.experts * gatedMlpParameters(hidden, moe.expertIntermediate);
  }
  return gatedMlpParameters(hidden, intermediate) + (shape.small.mlpBias ? 2 * intermediate + hidden : 0);
};

/** Parameters of one layer. */
const layerParameters = (shape: ModelShape, layer: number): number =>
  attentionParameters(shape) + mlpParameters(shape, layer) + shape.small.normsPerLayer * shape.hidden;

const allLayersParameters = (shape: ModelShape): number => {
  let total = 0;
  for (let layer = 0; layer < shape.layers; layer += 1) total += layerParameters(shape, layer);
  return total;
};

/** Parameters outside of layers: final norm, embedding and, unless tied, the output head. */
const outerParameters = ({ hidden, vocab, tiedEmbeddings }: ModelShape): number =>
  hidden + vocab * hidden * (tiedEmbeddings ? 1 : 2);

/** Parameters of the language model, in layers and outside. */
export const parameterCount = (shape: ModelShape): number =>
  outerParameters(shape) + allLayersParameters(shape);

/** Bytes of the weights as the checkpoint stores them; norms and biases (< 0.2 %) count as their layer's matrices. */
export const weightBytes = (shape: ModelShape): number =>
  outerParameters(shape) * shape.weightElementBytes + allLayersParameters(shape) * shape.matrixElementBytes;

/**
 * Flops of one layer's attention: `queries` query tokens a sequence, each reading `contextTokens` keys on average
 * (decode: the context; causal prefill of q tokens after c: c + q/2). QK and PV, 2 flops a multiply-add;
 * MLA in its absorbed form, over the latent.
 */
export const attentionFlops = (
  shape: ModelShape,
  sequences: number,
  queries: number,
  contextTokens: number,
): number => 2 * shape.heads * (shape.headDim + shape.valueHeadDim) * sequences * queries * contextTokens;
