/** Bytes and prices of prompt evictors: what a step reads by formula, what stays resident, what scoring costs in prefill. */
import { describe, expect, test } from 'vitest';
import { compareExperimentSchema } from '../experiment.ts';
import { findPolicy } from '../policy/find-policy.ts';
import type { PolicyResult } from '../result.ts';
import type { AttentionTrace } from '../trace/attention-trace.ts';
import { createRandomTrace } from '../trace/random-trace.ts';
import { compare } from './compare.ts';

const [LAYERS, KV_HEADS, GROUP, DIM, N, STEPS] = [4, 2, 3, 16, 120, 5];
const KV_BYTES = 2 * DIM * 2;
const smallModel = {
  model_type: 'llama',
  architectures: ['LlamaForCausalLM'],
  hidden_size: KV_HEADS * GROUP * DIM,
  intermediate_size: 128,
  num_hidden_layers: LAYERS,
  num_attention_heads: KV_HEADS * GROUP,
  num_key_value_heads: KV_HEADS,
  vocab_size: 100,
  max_position_embeddings: 4096,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  torch_dtype: 'bfloat16',
};

interface Run {
  readonly trace: AttentionTrace;
  readonly model: string | Record<string, unknown>;
  readonly dense: boolean;
  readonly layers: 'all' | readonly number[];
}

const run = ({ trace, model, dense, layers }: Run, name: string, config: object): PolicyResult => {
  const experiment = compareExperimentSchema.parse({
    trace: { kind: 'file', name: 'made', digest: 'none' },
    model,
    hardware: 'h100-sxm',
    stack: 'flashinfer-graphs',
    policies: [{ label: name, name, config: findPolicy(name).config.parse(config) }],
    contextTokens: trace.shape.promptTokens,
    steps: trace.shape.steps,
    batch: 1,
    dense,
    elementBytes: 2,
    layers,
    kvHeads: layers === 'all' ? 'all' : [0],
    seed: 1,
  });
  return compare({ experiment, trace }).result.policies[0];
};

const small: Run = {
  trace: createRandomTrace({
    shape: {
      layers: LAYERS,
      heads: KV_HEADS * GROUP,
      kvHeads: KV_HEADS,
      headDim: DIM,
      promptTokens: N,
      steps: STEPS,
      recordedLayers: [0, 1, 2, 3],
    },
    seed: 9,
  }),
  model: smallModel,
  dense: false,
  layers: 'all',
};
/** Tokens generated up to and with a step, mean over the steps. */
const GENERATED = (STEPS + 1) / 2;
const window = { budgetTokens: 50, windowTokens: 8 };

/** Tokens that one KV head reads a step, mean over heads, layers and steps. */
const cases: readonly (readonly [string, object, number])[] = [
  ['snapkv', window, 50 + GENERATED],
  ['snapkv', { ...window, group: 'per-query' }, GROUP * (50 + GENERATED)],
  ['sage-kv', { budgetTokens: 50, recentTokens: 20 }, 50],
  ['pyramidkv', window, 50 + GENERATED],
  ['pyramidkv', { ...window, group: 'per-query' }, GROUP * (50 + GENERATED)],
  ['adakv', window, 50 + GENERATED],
  ['adakv', { ...window, pyramid: true, alpha: 0.2 }, 50 + GENERATED],
  ['adakv', { ...window, group: 'per-query', normalize: true }, GROUP * (50 + GENERATED)],
  ['kvzip', { keepRatio: 0.25 }, 30 + GENERATED],
  ['judge-q', window, 50 + GENERATED],
  ['lookaheadkv', { ...window, score: 'oracle' }, 50 + GENERATED],
];

describe.each(cases)('%s %o', (name, config, tokens) => {
  const result = run(small, name, config);
  test('a step reads kept and generated tokens of every layer and KV head, and nothing else', () => {
    const bytes = LAYERS * KV_HEADS * KV_BYTES * tokens;
    const { hbm, 'dram->hbm': crossing } = result.traffic;
    expect('readBytesPerStep' in hbm ? hbm.readBytesPerStep : -1).toBeCloseTo(bytes, 6);
    expect('bytes' in crossing ? crossing.bytes : -1).toBe(0);
  });

  test('the peak holds one whole layer, or all of them until a second reading ends', () => {
    const { kvPeakBytes } = result.resident.hbm;
    const whole = LAYERS * KV_HEADS * KV_BYTES * N;
    if (name === 'kvzip') expect(kvPeakBytes).toBe(whole);
    else expect(kvPeakBytes).toBeLessThan(GROUP * whole);
    if (name === 'judge-q')
      expect(kvPeakBytes).toBe(KV_HEADS * KV_BYTES * (LAYERS * 50 + Math.max(N - 50, LAYERS * STEPS)));
  });
});

/** Llama-3.1-8B's shape with empty rows of one layer: for prices, which depend on no choice. */
const empty = (promptTokens: number): Run => {
  const keys = new Float32Array((promptTokens + 1) * 128);
  return {
    trace: {
      ...small.trace,
      shape: {
        layers: 32,
        heads: 32,
        kvHeads: 8,
        headDim: 128,
        promptTokens,
        steps: 1,
        recordedLayers: [16],
      },
      has: (field) => field === 'k' || field === 'q',
      keys: () => keys,
      queries: () => new Float32Array(4 * 128),
    },
    model: 'llama-3.1-8b',
    dense: true,
    layers: [16],
  };
};

describe('prefill of Llama-3.1-8B', () => {
  const overhead = (name: string, promptTokens: number, config: object = {}): number => {
    const run8b = empty(promptTokens);
    return run(run8b, name, config).prefillNs / run(run8b, 'full', {}).prefillNs - 1;
  };

  test('lookahead tokens cost a little: 2.16 % of a 32K prompt is published, with kernels of its own (arXiv 2603.10899)', () => {
    const ratio = overhead('lookaheadkv', 32768);
    expect(ratio).toBeGreaterThan(0.002);
    expect(ratio).toBeLessThan(0.0216);
    // Adapters add thin products, an even thinner vote less work.
    expect(overhead('judge-q', 32768)).toBeLessThan(ratio);
    expect(overhead('snapkv', 32768)).toBeLessThan(overhead('judge-q', 32768));
  });

  test('reading the prompt again costs two to three prefills more or less (NVIDIA/kvpress kvzip_press.py warns of it)', () => {
    const ratio = overhead('kvzip', 8192);
    expect(1 + ratio).toBeGreaterThan(2);
    expect(1 + ratio).toBeLessThan(3.5);
  });
});
