/**
 * The shape of a transformer as the simulator needs it: what a token leaves in the cache and what a layer multiplies.
 * Plain data; config.ts reads it from a Hugging Face config.json, ledger.ts and gemms.ts count bytes and flops on it.
 */

/** `full` sees the whole context; `sliding` only the last `slidingWindowTokens`. */
export type LayerKind = 'full' | 'sliding';

/** Multi-head latent attention (DeepSeek-V2/V3, arXiv:2405.04434 §2.1): one latent row a token serves all heads. */
export interface LatentAttention {
  /** Rank of the query's down-projection; null when queries are projected directly. */
  readonly queryRank: number | null;
  /** Rank of the cached latent. */
  readonly latentRank: number;
  /** Width of the shared rotary key that is cached beside the latent. */
  readonly ropeHeadDim: number;
  /** Non-rotary width of a query head before absorption. */
  readonly nopeHeadDim: number;
  /** Width of a value head after up-projection. */
  readonly upValueHeadDim: number;
}

export interface MixtureOfExperts {
  readonly experts: number;
  readonly expertsPerToken: number;
  readonly expertIntermediate: number;
  /** Intermediate width of the expert that every token visits; 0 = none. */
  readonly sharedIntermediate: number;
  /** Whether the shared expert has its own gate (Qwen2-MoE). */
  readonly sharedGate: boolean;
  /** Whether the router has a bias per expert (DeepSeek-V3's load-balance correction). */
  readonly routerBias: boolean;
  /** Per layer: true where the MLP is a mixture, false where it is dense. */
  readonly layers: readonly boolean[];
}

/** What the parameter count needs beyond the matrix widths. */
export interface SmallWeights {
  readonly queryKeyValueBias: boolean;
  readonly outputBias: boolean;
  readonly mlpBias: boolean;
  /** Whether queries and keys are normalised per head (Qwen3, Gemma-3). */
  readonly queryKeyNorm: boolean;
  /** RMS norms of width `hidden` in a layer: 2, or 4 with post-norms (Gemma-2/3). */
  readonly normsPerLayer: number;
}

export interface ModelShape {
  readonly name: string;
  readonly architecture: string;
  readonly layers: number;
  readonly heads: number;
  /** KV heads of the cache. MLA caches one latent row for all heads, so 1. */
  readonly kvHeads: number;
  /** Width of a cached key row (MLA: latent + rotary, the absorbed form). */
  readonly headDim: number;
  /** Width of a value row (MLA: the latent, which is part of the cached key row). */
  readonly valueHeadDim: number;
  /** Elements that one token leaves per KV head: K + V, or the latent row alone under MLA. */
  readonly kvRowElements: number;
  readonly hidden: number;
  /** Intermediate width of the dense MLP. */
  readonly intermediate: number;
  readonly vocab: number;
  readonly maxContextTokens: number;
  readonly attention: 'gqa' | 'mla';
  readonly layerKinds: readonly LayerKind[];
  readonly slidingWindowTokens: number | null;
  readonly moe: MixtureOfExperts | null;
  readonly mla: LatentAttention | null;
  readonly tiedEmbeddings: boolean;
  readonly ropeTheta: number;
  /** Rotary base of sliding layers where it differs (Gemma-3: 10 000). */
  readonly ropeLocalTheta: number | null;
  readonly small: SmallWeights;
  /** Bytes of one stored weight: 2 for bf16 and fp16, 1 for fp8 checkpoints (DeepSeek-V3), 4 for fp32. */
  readonly weightElementBytes: number;
  /**
   * Bytes of one weight of the layers' matrices, scales included: less than weightElementBytes where these alone are
   * coded (GPTQ, AWQ) and arithmetic is not.
   */
  readonly matrixElementBytes: number;
  /** What the config says of its weights' type that is not known here, so that their bytes are a guess; null = nothing. */
  readonly guessedWeights: string | null;
}
