/** Reading config.json: shapes of the attention kinds, defaults of model classes, and one-line errors. */
import { describe, expect, it } from 'vitest';
import { parseModelConfig } from './config.ts';
import { kvBytesPerToken } from './ledger.ts';
import { loadModel } from './models.ts';

const llama = {
  model_type: 'llama',
  hidden_size: 512,
  num_hidden_layers: 6,
  num_attention_heads: 8,
  num_key_value_heads: 2,
  intermediate_size: 1024,
  vocab_size: 1000,
  max_position_embeddings: 4096,
};

describe('parseModelConfig', () => {
  it('derives head_dim and takes multi-head attention where KV heads are not named', () => {
    const { num_key_value_heads: _, ...mha } = llama;
    const shape = parseModelConfig(mha, 'mha');
    expect(shape).toMatchObject({ headDim: 64, kvHeads: 8, attention: 'gqa', tiedEmbeddings: false });
    expect(kvBytesPerToken(shape, 2)).toBe(6 * 8 * 128 * 2);
  });

  it('reads multi-head latent attention as one cached row a token', () => {
    expect(loadModel('deepseek-v3')).toMatchObject({
      attention: 'mla',
      heads: 128,
      kvHeads: 1,
      headDim: 576,
      valueHeadDim: 512,
      kvRowElements: 576,
      weightElementBytes: 1,
    });
  });

  it('fills the defaults of the Gemma-3 class and looks inside text_config', () => {
    expect(loadModel('gemma-3-4b')).toMatchObject({
      heads: 8,
      kvHeads: 4,
      headDim: 256,
      vocab: 262_208,
      maxContextTokens: 131_072,
      slidingWindowTokens: 1024,
      tiedEmbeddings: true,
      ropeLocalTheta: 10_000,
    });
  });

  it('reads the three ways in which configs state sliding layers', () => {
    const sliding = (extra: object) =>
      parseModelConfig({ ...llama, sliding_window: 128, ...extra }, 's').layerKinds;
    expect(sliding({})).toEqual(Array(6).fill('sliding'));
    expect(sliding({ use_sliding_window: false })).toEqual(Array(6).fill('full'));
    expect(sliding({ use_sliding_window: true, max_window_layers: 4 }).slice(3)).toEqual([
      'full',
      'sliding',
      'sliding',
    ]);
    expect(sliding({ sliding_window_pattern: 3 })).toEqual([
      'sliding',
      'sliding',
      'full',
      'sliding',
      'sliding',
      'full',
    ]);
    const types = ['full_attention', ...Array(5).fill('sliding_attention')];
    expect(sliding({ layer_types: types })).toEqual(['full', ...Array(5).fill('sliding')]);
  });

  it('takes a window that holds all positions as none', () => {
    const shape = parseModelConfig({ ...llama, sliding_window: 8192 }, 'wide');
    expect(shape).toMatchObject({ layerKinds: Array(6).fill('full'), slidingWindowTokens: null });
  });

  it('finds the base of RoPE where transformers 5 writes it', () => {
    const { ropeTheta } = parseModelConfig({ ...llama, rope_parameters: { rope_theta: 5e5 } }, 'v5');
    expect(ropeTheta).toBe(500_000);
  });

  it('reads Llama 4: chunks but for every fourth layer, one shared expert, wide MLPs between', () => {
    const llama4 = {
      ...llama,
      model_type: 'llama4_text',
      intermediate_size: 256,
      intermediate_size_mlp: 1024,
      interleave_moe_layer_step: 2,
      num_local_experts: 16,
      num_experts_per_tok: 1,
      attention_chunk_size: 512,
    };
    const shape = parseModelConfig({ model_type: 'llama4', text_config: llama4 }, 'l4');
    expect(shape).toMatchObject({ intermediate: 1024, slidingWindowTokens: 512 });
    expect(shape.layerKinds.indexOf('full')).toBe(3);
    expect(shape.moe).toMatchObject({ expertIntermediate: 256, sharedIntermediate: 256 });
    expect(shape.moe?.layers).toEqual([false, true, false, true, false, true]);
    const own = { ...llama4, no_rope_layers: [1, 0, 1, 1, 1, 1] };
    expect(parseModelConfig(own, 'own').layerKinds.indexOf('full')).toBe(1);
  });

  it('reads mixtures of experts, dense first layers and shared experts', () => {
    const { moe } = loadModel('deepseek-v3');
    expect(moe).toMatchObject({
      experts: 256,
      expertsPerToken: 8,
      expertIntermediate: 2048,
      sharedIntermediate: 2048,
    });
    expect(moe?.layers.slice(0, 4)).toEqual([false, false, false, true]);
    expect(loadModel('qwen3-30b-a3b').moe).toMatchObject({ experts: 128, sharedIntermediate: 0 });
  });

  it('finds shipped models by their hub names', () => {
    expect(loadModel('meta-llama/Meta-Llama-3.1-8B-Instruct').name).toBe('llama-3.1-8b');
    expect(loadModel('Qwen2.5-7B-Instruct').name).toBe('qwen2.5-7b');
    expect(loadModel('google/gemma-3-4b-it').name).toBe('gemma-3-4b');
  });
});

describe('bad configs', () => {
  const bad = (extra: object) => () => parseModelConfig({ ...llama, ...extra }, 'mine.json');
  it.each([
    [{ hidden_size: -1 }, /mine\.json: field hidden_size/],
    [{ hidden_size: 500 }, /field hidden_size: expected a multiple of 8/],
    [{ num_key_value_heads: 3 }, /field num_key_value_heads: expected a divisor of 8 heads, got 3/],
    [{ layer_types: ['full_attention'] }, /field layer_types: expected 6 entries, got 1/],
    [{ layer_types: Array(6).fill('linear_attention') }, /'linear_attention' layers are not supported/],
    [{ num_experts: 8 }, /field num_experts_per_tok: expected 1 to 8/],
    [{ kv_lora_rank: 512 }, /expected beside kv_lora_rank/],
    [{ vocab_size: 'many' }, /field vocab_size/],
    [{ num_hidden_layers: 10_000_000 }, /field num_hidden_layers: .*4096/],
    [{ num_attention_heads: 1e9, head_dim: 64 }, /field num_attention_heads: .*4096/],
    [{ intermediate_size: 1e15 }, /field intermediate_size: .*16777216/],
    [{ model_type: 'gpt2' }, /model_type: 'gpt2' is not supported/],
  ])('%j is refused with one line', (extra, message) => {
    expect(bad(extra)).toThrow(message);
    expect(bad(extra)).toThrow(/^[^\n]*$/);
  });

  it('refuses what is no object, and names near models for an unknown one', () => {
    expect(() => parseModelConfig([], 'x.json')).toThrow(/model x\.json: expected the JSON object/);
    expect(() => loadModel('lama-3.1-8b')).toThrow(
      /unknown model 'lama-3\.1-8b': did you mean llama-3\.1-8b/,
    );
  });
});
