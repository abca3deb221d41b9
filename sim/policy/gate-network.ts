/**
 * Cost of WG-KV's write gate: a two-layer network a KV head on its normalised keys before and after rotation
 * (EMCLab-Sinica/WG-KV src/modeling_layers.py GatingPredictor): W1 [expand·d, 2d], W2 [1, expand·d], with biases, and one
 * norm weight a channel and layer.
 */
import type { Work, World } from './policy.ts';

export interface GateNetwork {
  /** Bytes of one layer's weights, all KV heads. */
  readonly layerWeightBytes: number;
  /** Work on one token of one KV head, of the prompt or of a batch of `tokens` of them. */
  work(tokens: number): Work;
}

/** `expand`: hidden width over head dimension; 0 = no network. `kernels`: launches of one evaluation. */
export const gateNetwork = (expand: number, kernels: number, world: World): GateNetwork => {
  const { headDim, kvHeads, kBytesPerToken } = world;
  const elementBytes = kBytesPerToken / headDim;
  const input = 2 * headDim;
  const hidden = expand * headDim;
  const parameters = hidden === 0 ? 0 : input * hidden + 2 * hidden + 1;
  const layerWeightBytes = hidden === 0 ? 0 : (kvHeads * parameters + input) * elementBytes;
  return {
    layerWeightBytes,
    work: (tokens) => ({
      index: 'gate',
      // The hidden layer is written and read before and after its activation.
      readBytes: { hbm: tokens * (input + 2 * hidden) * elementBytes },
      writeBytes: { hbm: tokens * 2 * hidden * elementBytes },
      flops: tokens * (4 * input + 8 * hidden),
      matrixFlops: tokens * (2 * input * hidden + 2 * hidden),
      kernels,
      weightBytes: layerWeightBytes,
      call: { kernel: 'gate', counts: { tokens }, shape: { hidden } },
    }),
  };
};
