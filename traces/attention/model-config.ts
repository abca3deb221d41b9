/**
 * The model of a recorded trace as a Hugging Face config, from the trace's own metadata: enough to time a model that
 * is in no catalog. What the metadata does not say is assumed, and listed.
 */
import type { AttentionMetadata } from './metadata.ts';

export interface TraceModelConfig {
  readonly config: Record<string, unknown>;
  /** Fields that were assumed, with the values taken; for people. */
  readonly assumed: readonly string[];
}

/** Gated MLPs of Llama-like models are 2.7 to 5.4 hidden sizes wide (Llama-3.1-8B 3.5, SmolLM2-135M 2.7, Qwen2.5-0.5B 5.4). */
const MLP_WIDTH_RATIO = 3.5;
const VOCAB = 32000;

const latentFields = (latent: NonNullable<AttentionMetadata['model']['latent']>) => ({
  q_lora_rank: latent.queryRank,
  kv_lora_rank: latent.latentRank,
  qk_rope_head_dim: latent.ropeHeadDim,
  qk_nope_head_dim: latent.nopeHeadDim,
  v_head_dim: latent.upValueHeadDim,
});

export const configOfTrace = ({ model, rope, promptTokens, steps }: AttentionMetadata): TraceModelConfig => {
  const assumed: string[] = [];
  const or = (field: string, value: number | null | undefined, fallback: number): number => {
    if (value !== null && value !== undefined) return value;
    assumed.push(`${field} ${fallback}`);
    return fallback;
  };
  const hidden = or('hidden size', model.hidden, model.heads * model.headDim);
  const config = {
    _name_or_path: model.name,
    model_type: 'llama',
    architectures: [model.architecture || 'LlamaForCausalLM'],
    hidden_size: hidden,
    num_hidden_layers: model.layers,
    num_attention_heads: model.heads,
    num_key_value_heads: model.kvHeads,
    head_dim: model.headDim,
    ...(model.latent === undefined ? {} : latentFields(model.latent)),
    intermediate_size: or('MLP width', model.intermediate, Math.round(MLP_WIDTH_RATIO * hidden)),
    vocab_size: or('vocabulary', model.vocab, VOCAB),
    max_position_embeddings: model.maxContextTokens ?? promptTokens + steps,
    rope_theta: rope?.theta ?? 10000,
    ...(model.slidingWindowTokens
      ? {
          sliding_window: model.slidingWindowTokens,
          use_sliding_window: true,
          layer_types: Array.from({ length: model.layers }, (_, layer) =>
            model.slidingLayers.includes(layer) ? 'sliding_attention' : 'full_attention',
          ),
        }
      : {}),
  };
  return { config, assumed };
};
