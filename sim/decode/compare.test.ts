/** What a comparison says beside its numbers. */
import { expect, test } from 'vitest';
import { compareExperimentSchema } from '../experiment.ts';
import { createRandomTrace } from '../trace/random-trace.ts';
import { compare } from './compare.ts';
import { limitsOf, sampleNote } from './notes.ts';

const model = (maxContextTokens: number) => ({
  model_type: 'llama',
  architectures: ['LlamaForCausalLM'],
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 100,
  max_position_embeddings: maxContextTokens,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  tie_word_embeddings: true,
  torch_dtype: 'bfloat16',
});

const notesOf = (maxContextTokens: number, weights: object = {}): readonly string[] => {
  const shape = {
    layers: 2,
    heads: 4,
    kvHeads: 2,
    headDim: 16,
    promptTokens: 100,
    steps: 2,
    recordedLayers: [0, 1],
  };
  const experiment = compareExperimentSchema.parse({
    trace: { kind: 'file', name: 'random', digest: 'none' },
    model: { ...model(maxContextTokens), ...weights },
    hardware: 'h100-sxm',
    stack: 'flashinfer-graphs',
    policies: [{ label: 'full', name: 'full', config: {} }],
    contextTokens: 100,
    steps: 2,
    batch: 1,
    dense: true,
    elementBytes: 2,
    layers: 'auto',
    kvHeads: 'auto',
    seed: 1,
  });
  return compare({ experiment, trace: createRandomTrace({ shape, seed: 1 }) }).result.notes;
};

test('a context beyond what the model was trained for is run, and said', () => {
  expect(notesOf(100)).toEqual([]);
  expect(notesOf(99)).toEqual([expect.stringMatching(/^100 tokens of context: .* was trained for 99\.$/)]);
});

test('weights of a type that is not known are guessed, and said', () => {
  const mxfp4 = { quantization_config: { quant_method: 'mxfp4' } };
  expect(notesOf(100, mxfp4)).toEqual([
    expect.stringMatching(/^Weights of .*: quant_method mxfp4 is not known; counted as 2 bytes each\.$/),
  ]);
  expect(notesOf(100, { torch_dtype: 'float4' })).toEqual([expect.stringContaining('torch_dtype float4')]);
  expect(notesOf(100, { torch_dtype: 'float8_e4m3fn' })).toEqual([]);
});

test('a mean that first steps make long, for what is left of the prompt, is said', () => {
  const shape = {
    layers: 2,
    heads: 4,
    kvHeads: 2,
    headDim: 16,
    promptTokens: 3000,
    steps: 6,
    recordedLayers: [0, 1],
  };
  const experiment = compareExperimentSchema.parse({
    trace: { kind: 'file', name: 'random', digest: 'none' },
    model: model(4096),
    hardware: 'h100-sxm',
    stack: 'flashinfer-graphs',
    policies: ['full', 'pqcache'].map((name) => ({ label: name, name, config: {} })),
    contextTokens: 3000,
    steps: 6,
    batch: 16,
    dense: false,
    elementBytes: 2,
    layers: 'auto',
    kvHeads: 'auto',
    seed: 1,
  });
  const { notes } = compare({ experiment, trace: createRandomTrace({ shape, seed: 1 }) }).result;
  const lines = notes.filter((note) => note.includes('first steps'));
  expect(lines).toEqual([
    expect.stringMatching(/^pqcache: the first steps wait [\d.]+ ms for what is left of the prompt's work/),
  ]);
});

test('steps at which nothing is chosen are told from steps at which nothing is measured', () => {
  const shape = {
    layers: 1,
    heads: 2,
    kvHeads: 1,
    headDim: 8,
    promptTokens: 64,
    steps: 8,
    recordedLayers: [0],
  };
  const trace = createRandomTrace({ shape, seed: 1 });
  const said = (everySteps: number, leadSteps: number): string => {
    const sample = { layers: [0], kvHeads: [0], everySteps, leadSteps };
    return [...sampleNote(sample, trace), ...limitsOf(trace, new Set(['v']), 8, sample)].join('\n');
  };
  expect(said(1, 0)).not.toMatch(/measured at|of 1 steps/);
  expect(said(4, 3)).toMatch(/measured at one step in 4\./);
  expect(said(4, 3)).not.toMatch(/of 4 steps/);
  expect(said(4, 1)).toMatch(
    /^Selection replayed on 2 of 4 steps;[\s\S]*Choices are replayed at 2 of 4 steps/,
  );
});
