/**
 * The matrix products of a layer for a batch of tokens: what a `dense` operation carries.
 * Projections that read the same input are one product, as serving engines fuse them (q, k, v; gate, up).
 */
import type { Gemm } from '../program/operation.ts';
import type { MixtureOfExperts, ModelShape } from './shape.ts';

const gemm = (m: number, n: number, k: number, elementBytes: number): Gemm => ({
  m,
  n,
  k,
  weightBytes: n * k * elementBytes,
});

/** base^exponent for a whole exponent, by squaring: the engine-independent power that expectedExperts needs. */
const wholePower = (base: number, exponent: number): number => {
  let result = 1;
  let square = base;
  for (let rest = exponent; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) result *= square;
    square *= square;
  }
  return result;
};

/** Distinct experts that `tokens` tokens touch, in expectation, when each picks its experts evenly. */
export const expectedExperts = (moe: MixtureOfExperts, tokens: number): number =>
  moe.experts * (1 - wholePower(1 - moe.expertsPerToken / moe.experts, Math.ceil(tokens)));

/**
 * Low-rank adapters of `tokens` tokens beside each of a layer's products: one to the rank, one back from it. Scaling
 * follows the one and adding to the layer's own product the other; norms and activations are the layer's.
 */
export const adapterGemms = (
  gemms: readonly Gemm[],
  tokens: number,
  rank: number,
  elementBytes: number,
): readonly Gemm[] =>
  gemms
    .flatMap(({ n, k }) => [gemm(tokens, rank, k, elementBytes), gemm(tokens, n, rank, elementBytes)])
    .map((product) => ({ ...product, companions: 1 }));

/** Everything before attention: q, k and v projections of `tokens` tokens (MLA: down- and up-projections). */
export const attentionInputGemms = (shape: ModelShape, tokens: number): readonly Gemm[] => {
  const { hidden, heads, kvHeads, headDim, mla, matrixElementBytes: elementBytes } = shape;
  if (!mla) return [gemm(tokens, (heads + 2 * kvHeads) * headDim, hidden, elementBytes)];
  const queryWidth = heads * (mla.nopeHeadDim + mla.ropeHeadDim);
  const down = mla.latentRank + mla.ropeHeadDim;
  // The latent's up-projection: absorbed into queries and outputs in decode, applied to tokens in prefill;
  // either way its weights are read once and multiplied once a token.
  const up = gemm(tokens, heads * (mla.nopeHeadDim + mla.upValueHeadDim), mla.latentRank, elementBytes);
  if (mla.queryRank === null) return [gemm(tokens, queryWidth + down, hidden, elementBytes), up];
  return [
    gemm(tokens, mla.queryRank + down, hidden, elementBytes),
    gemm(tokens, queryWidth, mla.queryRank, elementBytes),
    up,
  ];
};

const gatedMlp = (
  tokens: number,
  hidden: number,
  intermediate: number,
  elementBytes: number,
): readonly Gemm[] => [
  gemm(tokens, 2 * intermediate, hidden, elementBytes),
  gemm(tokens, hidden, intermediate, elementBytes),
];

const mixture = (
  moe: MixtureOfExperts,
  hidden: number,
  tokens: number,
  elementBytes: number,
): readonly Gemm[] => {
  const distinct = expectedExperts(moe, tokens);
  const rows = tokens * moe.expertsPerToken;
  const grouped = (n: number, k: number): Gemm => ({
    m: rows,
    n,
    k,
    weightBytes: distinct * n * k * elementBytes,
  });
  return [
    gemm(tokens, moe.experts, hidden, elementBytes),
    ...(moe.sharedIntermediate > 0 ? gatedMlp(tokens, hidden, moe.sharedIntermediate, elementBytes) : []),
    grouped(2 * moe.expertIntermediate, hidden),
    grouped(hidden, moe.expertIntermediate),
  ];
};

/** Everything after attention: output projection and MLP of `tokens` tokens in one layer. */
export const outputAndMlpGemms = (shape: ModelShape, layer: number, tokens: number): readonly Gemm[] => {
  const { hidden, heads, mla, moe, matrixElementBytes: elementBytes } = shape;
  const outputWidth = heads * (mla ? mla.upValueHeadDim : shape.valueHeadDim);
  const mlp = moe?.layers[layer]
    ? mixture(moe, hidden, tokens, elementBytes)
    : gatedMlp(tokens, hidden, shape.intermediate, elementBytes);
  return [gemm(tokens, hidden, outputWidth, elementBytes), ...mlp];
};

/** The output head for the tokens whose logits are needed (one a sequence in decode). */
export const headGemms = (shape: ModelShape, tokens: number): readonly Gemm[] => [
  gemm(tokens, shape.vocab, shape.hidden, shape.weightElementBytes),
];

/** Flops of a list of products. */
export const gemmFlops = (gemms: readonly Gemm[]): number =>
  gemms.reduce((sum, { m, n, k }) => sum + 2 * m * n * k, 0);
