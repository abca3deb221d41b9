/**
 * What DeltaKV computes and stores beside attention, of one KV head of a sparse layer: compressing (neighbours, then the
 * down-projection of rows and bases), rebuilding (up-projection, references, rotation) and the indexes.
 * CURRENTF/Sparse-vLLM at d526f0a: engine/cache_manager.py, utils/compressor.py (SwiGLU down, linear up, no bias).
 */
import type { Work, World } from './policy.ts';

export interface DeltaSizes {
  /** Latent values of a token and layer, and the bits of each. */
  readonly latentDim: number;
  readonly bits: number;
  readonly neighbours: number;
  /** Hidden width of the down-projection. */
  readonly hidden: number;
}

/** Latent values that share a scale and a minimum. */
const GROUP = 32;
/** Launches of compressing a block and of rebuilding a choice, a layer. */
const COMPRESS_KERNELS = 20;
const REBUILD_KERNELS = 4;

export const deltaCosts = ({ latentDim, bits, neighbours, hidden }: DeltaSizes, world: World) => {
  const { kvHeads, headDim, kBytesPerToken, vBytesPerToken } = world;
  const rowBytes = kBytesPerToken + vBytesPerToken;
  const elementBytes = kBytesPerToken / headDim;
  /** K and V elements of a token in all heads of a layer. */
  const width = (rowBytes / elementBytes) * kvHeads;
  const downWeights = 2 * width * hidden + hidden * latentDim;
  const upWeights = latentDim * width;
  return {
    /** Latents of one token and KV head. */
    payloadBytes: (latentDim * bits) / 8 / kvHeads,
    /** Scales and minima of quantised latents, and the 32-bit slots of a token's references. */
    scaleBytes: bits === 16 ? 0 : (4 * Math.ceil(latentDim / GROUP)) / kvHeads,
    slotBytes: (4 * neighbours) / kvHeads,
    layerWeightBytes: (downWeights + upWeights) * elementBytes,
    /** Compresses `tokens` tokens against `references` references; `blocks` passes over the weights. */
    compress(tokens: number, references: number, blocks: number): Work {
      const scores = (tokens * references * elementBytes) / kvHeads;
      return {
        index: 'compress',
        // Rows, references, then scores of all pairs, which top-k reads; bases are gathered, both go through the product.
        readBytes: { hbm: (tokens * (3 + neighbours) + references) * rowBytes + 2 * scores },
        writeBytes: { hbm: tokens * (2 * rowBytes + (latentDim * bits) / 8 / kvHeads) + scores },
        flops: 0,
        matrixFlops: (2 * tokens * references * width + 2 * 2 * tokens * downWeights) / kvHeads,
        kernels: COMPRESS_KERNELS * blocks,
        weightBytes: downWeights * elementBytes * blocks,
      };
    },
    /** Rebuilds `tokens` tokens from latents and references into scratch rows, which attention reads. */
    rebuild(tokens: number): Work {
      return {
        index: 'rebuild',
        readBytes: { hbm: tokens * (neighbours * rowBytes + (latentDim * bits) / 8 / kvHeads) },
        writeBytes: { hbm: tokens * rowBytes },
        flops: (tokens * (neighbours + 4) * rowBytes) / elementBytes,
        matrixFlops: (2 * tokens * upWeights) / kvHeads,
        kernels: REBUILD_KERNELS,
        weightBytes: upWeights * elementBytes,
        call: { kernel: 'delta-rebuild', counts: { tokens }, shape: { latentDim, bits, neighbours } },
      };
    },
  };
};

export type DeltaCosts = ReturnType<typeof deltaCosts>;

/** What an observation layer's kernel writes beside its output: logits per query head, cleared first, then their maximum. */
export const observedLogits = (tokens: number, { groupSize }: World): Work => ({
  index: 'observed-logits',
  readBytes: { hbm: 4 * groupSize * tokens },
  writeBytes: { hbm: 8 * groupSize * tokens },
  flops: groupSize * tokens,
  kernels: 2,
  call: { kernel: 'observed-logits', counts: { tokens } },
});

/** The same where the layer attends to the best of them only: their keys are read for it. */
export const ownLogits = (tokens: number, world: World): Work => {
  const observed = observedLogits(tokens, world);
  return {
    ...observed,
    index: 'own-logits',
    readBytes: { hbm: (observed.readBytes.hbm ?? 0) + tokens * world.kBytesPerToken },
    matrixFlops: 2 * world.headDim * world.groupSize * tokens,
    kernels: observed.kernels + 1,
    call: { kernel: 'own-logits', counts: { tokens } },
  };
};

/** The works of several blocks as one, per token of the prompt. */
export const perToken = (work: Work, tokens: number): Work => ({
  ...work,
  readBytes: { hbm: (work.readBytes.hbm ?? 0) / tokens },
  writeBytes: { hbm: (work.writeBytes?.hbm ?? 0) / tokens },
  flops: work.flops / tokens,
  matrixFlops: (work.matrixFlops ?? 0) / tokens,
});
