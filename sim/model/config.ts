/**
 * Reads a Hugging Face config.json into a ModelShape: MHA, GQA, MLA, sliding and hybrid layers, mixtures of experts.
 * Fields that a config leaves out take the defaults of its model class (transformers/models/<type>/configuration_*.py).
 * Throws SimError 'invalid-input' with one line that names the model, the field and what was expected.
 */
import * as z from 'zod';
import { SimError } from '../error.ts';
import { firstIssue } from '../near-names.ts';
import { elementBytesOf, quantizationSchema } from './element-bytes.ts';
import type { LatentAttention, LayerKind, MixtureOfExperts, ModelShape, SmallWeights } from './shape.ts';

/** Thirty times the largest models of the catalog and more: beyond lies a slip, of which a run would want all memory. */
const MOST_LAYERS = 4096;
const MOST_HEADS = 4096;
const MOST_ELEMENTS = 2 ** 24;

const count = z.number().int().positive();
const width = count.max(MOST_ELEMENTS);
const optional = width.nullish();

const configSchema = z.looseObject({
  model_type: z.string(),
  architectures: z.array(z.string()).optional(),
  hidden_size: width,
  num_hidden_layers: count.max(MOST_LAYERS),
  num_attention_heads: count.max(MOST_HEADS),
  num_key_value_heads: optional,
  head_dim: optional,
  intermediate_size: width,
  vocab_size: width,
  max_position_embeddings: count,
  tie_word_embeddings: z.boolean().nullish(),
  attention_bias: z.boolean().nullish(),
  mlp_bias: z.boolean().nullish(),
  rope_theta: z.number().positive().nullish(),
  rope_local_base_freq: z.number().positive().nullish(),
  rope_parameters: z.looseObject({ rope_theta: z.number().positive().optional() }).nullish(),
  sliding_window: count.nullish(),
  sliding_window_pattern: optional,
  _sliding_window_pattern: optional,
  use_sliding_window: z.boolean().nullish(),
  max_window_layers: z.number().int().nonnegative().nullish(),
  layer_types: z.array(z.string()).nullish(),
  kv_lora_rank: optional,
  q_lora_rank: optional,
  qk_rope_head_dim: optional,
  qk_nope_head_dim: optional,
  v_head_dim: optional,
  num_experts: optional,
  num_local_experts: optional,
  n_routed_experts: optional,
  num_experts_per_tok: optional,
  moe_intermediate_size: optional,
  n_shared_experts: z.number().int().nonnegative().nullish(),
  shared_expert_intermediate_size: z.number().int().nonnegative().nullish(),
  first_k_dense_replace: z.number().int().nonnegative().nullish(),
  moe_layer_freq: optional,
  decoder_sparse_step: optional,
  mlp_only_layers: z.array(z.number().int().nonnegative()).nullish(),
  topk_method: z.string().nullish(),
  torch_dtype: z.string().nullish(),
  dtype: z.string().nullish(),
  quantization_config: quantizationSchema.nullish(),
});

type Config = z.infer<typeof configSchema>;

/** What the model classes assume where a config is silent; only types whose published configs rely on it. */
const GEMMA3_TEXT = {
  vocab_size: 262_208,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 256,
  max_position_embeddings: 131_072,
  rope_theta: 1_000_000,
  rope_local_base_freq: 10_000,
  sliding_window: 4096,
  sliding_window_pattern: 6,
  tie_word_embeddings: true,
};
const CLASS_DEFAULTS: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  gemma3_text: GEMMA3_TEXT,
  gemma2: { head_dim: 256, tie_word_embeddings: true, sliding_window: 4096, sliding_window_pattern: 2 },
  gemma: { head_dim: 256, tie_word_embeddings: true },
  qwen2: { attention_bias: true, sliding_window: 4096, use_sliding_window: false },
  qwen2_moe: {
    attention_bias: true,
    sliding_window: 4096,
    use_sliding_window: false,
    decoder_sparse_step: 1,
  },
  qwen3: { use_sliding_window: false },
  qwen3_moe: { use_sliding_window: false, decoder_sparse_step: 1 },
};
const QUERY_KEY_NORM = new Set(['qwen3', 'qwen3_moe', 'gemma3_text']);
const POST_NORMS = new Set(['gemma2', 'gemma3_text']);
/** Classes whose MLP has two matrices, or whose names of fields differ: counting them as gated would be wrong. */
const NOT_GATED = new Set(['gpt2', 'gpt_neox', 'gptj', 'opt', 'bloom', 'falcon', 'mpt', 'phi', 'starcoder2']);
const HYBRID_FIELDS = ['linear_num_key_heads', 'hybrid_override_pattern', 'mamba_d_state', 'ssm_state_size'];

const invalid = (name: string, message: string): SimError =>
  new SimError('invalid-input', `model ${name}: ${message}`);

/**
 * Llama 4 says otherwise what others say: attention within chunks but for every fourth layer, one shared expert as wide
 * as the others, another width of MLPs without experts (transformers/models/llama4/configuration_llama4.py).
 */
const llama4Fields = (part: Record<string, unknown>): Record<string, unknown> => {
  const { no_rope_layers: given } = part;
  const chunked = Array.isArray(given) && given.length > 0 ? given.map(Boolean) : null;
  return {
    sliding_window: part.attention_chunk_size ?? 8192,
    ...(chunked === null || part.layer_types
      ? { sliding_window_pattern: part.no_rope_layer_interval ?? 4 }
      : { layer_types: chunked.map((isChunked) => (isChunked ? 'chunked_attention' : 'full_attention')) }),
    decoder_sparse_step: part.interleave_moe_layer_step ?? 1,
    n_shared_experts: 1,
    moe_intermediate_size: part.intermediate_size,
    intermediate_size: part.intermediate_size_mlp ?? 16_384,
  };
};

/** The part of a multimodal config that describes the language model, with the outer fields it inherits. */
const textPart = (json: unknown, name: string): Record<string, unknown> => {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw invalid(name, 'expected the JSON object of a Hugging Face config.json');
  }
  const outer = json as Record<string, unknown>;
  const nested = outer.text_config ?? outer.language_config ?? outer.llm_config;
  const text = typeof nested === 'object' && nested !== null ? (nested as Record<string, unknown>) : outer;
  const inherited = {
    torch_dtype: outer.torch_dtype,
    architectures: outer.architectures,
    tie_word_embeddings: outer.tie_word_embeddings,
    quantization_config: outer.quantization_config,
    model_type: outer.model_type,
  };
  const defined = Object.fromEntries(Object.entries(inherited).filter(([, value]) => value !== undefined));
  const merged: Record<string, unknown> = { ...defined, ...text };
  if (merged.model_type === 'llama4_text') return { ...merged, ...llama4Fields(merged) };
  return { ...CLASS_DEFAULTS[String(merged.model_type)], ...merged };
};

const LAYER_TYPES: Readonly<Record<string, LayerKind>> = {
  full_attention: 'full',
  attention: 'full',
  sliding_attention: 'sliding',
  // What such a layer keeps at most; it attends to less early in a chunk.
  chunked_attention: 'sliding',
};

const layerKindsOf = (config: Config, name: string): readonly LayerKind[] => {
  const layers = config.num_hidden_layers;
  if (config.layer_types) {
    if (config.layer_types.length !== layers) {
      throw invalid(name, `field layer_types: expected ${layers} entries, got ${config.layer_types.length}`);
    }
    return config.layer_types.map((type) => {
      const kind = LAYER_TYPES[type];
      if (!kind) throw invalid(name, `field layer_types: '${type}' layers are not supported`);
      return kind;
    });
  }
  const kinds = (sliding: (layer: number) => boolean): readonly LayerKind[] =>
    Array.from({ length: layers }, (_, layer) => (sliding(layer) ? 'sliding' : 'full'));
  const window = config.use_sliding_window === false ? null : config.sliding_window;
  // Phi-3 at 128K states a window of 256K: nothing ever slides out of it.
  if (!window || window >= config.max_position_embeddings) return kinds(() => false);
  const pattern = config.sliding_window_pattern ?? config._sliding_window_pattern;
  if (pattern) return kinds((layer) => (layer + 1) % pattern !== 0);
  // Qwen2/3: the first max_window_layers layers stay full; Mistral v0.1 slides in every layer.
  if (config.use_sliding_window) return kinds((layer) => layer >= (config.max_window_layers ?? 0));
  return kinds(() => true);
};

const latentOf = (config: Config, name: string): LatentAttention | null => {
  const { kv_lora_rank, qk_rope_head_dim, qk_nope_head_dim, v_head_dim } = config;
  if (!kv_lora_rank) return null;
  if (!qk_rope_head_dim || !qk_nope_head_dim || !v_head_dim) {
    throw invalid(
      name,
      'fields qk_rope_head_dim, qk_nope_head_dim and v_head_dim: expected beside kv_lora_rank',
    );
  }
  return {
    queryRank: config.q_lora_rank ?? null,
    latentRank: kv_lora_rank,
    ropeHeadDim: qk_rope_head_dim,
    nopeHeadDim: qk_nope_head_dim,
    upValueHeadDim: v_head_dim,
  };
};

const mixtureOf = (config: Config, name: string): MixtureOfExperts | null => {
  const experts = config.n_routed_experts ?? config.num_experts ?? config.num_local_experts;
  if (!experts) return null;
  const expertsPerToken = config.num_experts_per_tok;
  if (!expertsPerToken || expertsPerToken > experts) {
    throw invalid(
      name,
      `field num_experts_per_tok: expected 1 to ${experts}, got ${expertsPerToken ?? 'nothing'}`,
    );
  }
  const expertIntermediate = config.moe_intermediate_size ?? config.intermediate_size;
  const dense = new Set(config.mlp_only_layers ?? []);
  const firstDense = config.first_k_dense_replace ?? 0;
  const every = config.moe_layer_freq ?? 1;
  const step = config.decoder_sparse_step ?? 1;
  const isMixture = (layer: number): boolean =>
    layer >= firstDense && layer % every === 0 && (layer + 1) % step === 0 && !dense.has(layer);
  return {
    experts,
    expertsPerToken,
    expertIntermediate,
    sharedIntermediate:
      config.shared_expert_intermediate_size ?? (config.n_shared_experts ?? 0) * expertIntermediate,
    sharedGate: Boolean(config.shared_expert_intermediate_size),
    routerBias: config.topk_method === 'noaux_tc',
    layers: Array.from({ length: config.num_hidden_layers }, (_, layer) => isMixture(layer)),
  };
};

const smallWeightsOf = (config: Config): SmallWeights => ({
  queryKeyValueBias: config.attention_bias === true,
  // Qwen2's attention has biases on q, k and v alone.
  outputBias: config.attention_bias === true && !config.model_type.startsWith('qwen2'),
  mlpBias: config.mlp_bias === true,
  queryKeyNorm: QUERY_KEY_NORM.has(config.model_type),
  normsPerLayer: POST_NORMS.has(config.model_type) ? 4 : 2,
});

/** Widths of the attention: from the config, or derived as the model classes derive them. */
const attentionWidths = (config: Config, name: string) => {
  const heads = config.num_attention_heads;
  const mla = latentOf(config, name);
  if (mla) {
    const rowElements = mla.latentRank + mla.ropeHeadDim;
    return {
      mla,
      kvHeads: 1,
      headDim: rowElements,
      valueHeadDim: mla.latentRank,
      kvRowElements: rowElements,
    };
  }
  const kvHeads = config.num_key_value_heads ?? heads;
  if (heads % kvHeads !== 0) {
    throw invalid(name, `field num_key_value_heads: expected a divisor of ${heads} heads, got ${kvHeads}`);
  }
  if (!config.head_dim && config.hidden_size % heads !== 0) {
    throw invalid(name, `field hidden_size: expected a multiple of ${heads} heads, or an explicit head_dim`);
  }
  const headDim = config.head_dim ?? config.hidden_size / heads;
  return { mla, kvHeads, headDim, valueHeadDim: headDim, kvRowElements: 2 * headDim };
};

/** The shape that a Hugging Face config.json describes. `name` is how errors and listings call the model. */
export const parseModelConfig = (json: unknown, name: string): ModelShape => {
  const part = textPart(json, name);
  if (NOT_GATED.has(String(part.model_type))) {
    throw invalid(name, `field model_type: '${part.model_type}' is not supported (its MLP is not gated)`);
  }
  const hybrid = HYBRID_FIELDS.find((field) => part[field] !== undefined);
  if (hybrid) throw invalid(name, `field ${hybrid}: layers with recurrent state are not supported`);
  const parsed = configSchema.safeParse(part);
  if (!parsed.success) throw invalid(name, firstIssue(parsed.error.issues));
  const config = parsed.data;
  const layerKinds = layerKindsOf(config, name);
  const slides = layerKinds.includes('sliding');
  if (slides && !config.sliding_window)
    throw invalid(name, 'field sliding_window: expected beside sliding layers');
  const widths = attentionWidths(config, name);
  return {
    name,
    architecture: config.architectures?.[0] ?? config.model_type,
    layers: config.num_hidden_layers,
    heads: config.num_attention_heads,
    ...widths,
    hidden: config.hidden_size,
    intermediate: config.intermediate_size,
    vocab: config.vocab_size,
    maxContextTokens: config.max_position_embeddings,
    attention: widths.mla ? 'mla' : 'gqa',
    layerKinds,
    slidingWindowTokens: slides ? (config.sliding_window ?? null) : null,
    moe: mixtureOf(config, name),
    tiedEmbeddings: config.tie_word_embeddings ?? false,
    ropeTheta: config.rope_theta ?? config.rope_parameters?.rope_theta ?? 10_000,
    ropeLocalTheta: config.rope_local_base_freq ?? null,
    small: smallWeightsOf(config),
    ...elementBytesOf(config),
  };
};
