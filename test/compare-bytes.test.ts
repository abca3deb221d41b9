/**
 * The bytes that published systems move at Llama-3.1-8B's shape and 128K tokens (arithmetic of the systems' own
 * parameters: KV is 131,072 bytes a token in bf16), and the time of full attention on an H100.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import { compare } from '../sim/decode/compare.ts';
import { compareExperimentSchema } from '../sim/experiment.ts';
import type { PolicyResult } from '../sim/result.ts';
import { createSyntheticTrace } from '../traces/attention/synthetic.ts';

const CONTEXT_TOKENS = 131072;
const STEPS = 2;

const runs = [
  ['full', 'full', {}],
  ['offload', 'full-offload', {}],
  ['ttkv 16 blocks', 'ttkv', { fastTokens: 8192, slowBlocks: 16 }],
  ['ttkv 45 %', 'ttkv', { fastTokens: 8192, slowShare: 0.45 }],
  ['pariskv 100', 'pariskv', { topK: 100 }],
  ['pariskv 2048', 'pariskv', { topK: 2048 }],
] as const;

const results = new Map<string, PolicyResult>();

beforeAll(() => {
  const spec = { preset: 'llama-3.1-8b', promptTokens: CONTEXT_TOKENS, steps: STEPS, seed: 1 };
  const experiment = compareExperimentSchema.parse({
    trace: { kind: 'synthetic', preset: 'llama-3.1-8b', spec },
    model: 'llama-3.1-8b',
    hardware: 'h100-sxm',
    stack: 'flashinfer-graphs',
    policies: runs.map(([label, name, config]) => ({ label, name, config })),
    contextTokens: CONTEXT_TOKENS,
    steps: STEPS,
    batch: 1,
    dense: false,
    elementBytes: 2,
    layers: [16],
    kvHeads: [0],
    seed: 1,
  });
  const { result } = compare({ experiment, trace: createSyntheticTrace(spec) });
  for (const policy of result.policies) results.set(policy.policy, policy);
});

const resultOf = (label: string): PolicyResult => {
  const result = results.get(label);
  if (result === undefined) throw new Error(`no result for ${label}`);
  return result;
};

const crossing = (label: string, key: string): number => {
  const traffic = resultOf(label).traffic[key];
  if (!('bytesPerStep' in traffic)) throw new Error(`${key} is no boundary`);
  return traffic.bytesPerStep;
};

const hbmRead = (label: string): number => {
  const { hbm } = resultOf(label).traffic;
  return 'readBytesPerStep' in hbm ? hbm.readBytesPerStep : 0;
};

const expectWithin = (actual: number, expected: number, ratio: number): void => {
  expect(actual / expected).toBeGreaterThan(1 - ratio);
  expect(actual / expected).toBeLessThan(1 + ratio);
};

describe('Llama-3.1-8B, 128K tokens, one sequence', () => {
  test('full attention reads 17.18 GB of KV from HBM in 5.6 to 7.5 ms', () => {
    expectWithin(hbmRead('full'), 17.18e9, 0.001);
    expect(crossing('full', 'dram->hbm')).toBe(0);
    const { stepNs, bound } = resultOf('full');
    expect(stepNs.mean).toBeGreaterThan(5.6e6);
    expect(stepNs.mean).toBeLessThan(7.5e6);
    expect(bound.resource).toBe('hbm');
  });

  test('with KV in DRAM all of it crosses the link each step, and the link binds', () => {
    expectWithin(crossing('offload', 'dram->hbm'), 17.18e9, 0.001);
    expectWithin(crossing('offload', 'hbm->dram'), 131072, 0.51);
    expect(resultOf('offload').bound).toMatchObject({ resource: 'pcie.h2d' });
    expect(resultOf('offload').bound.share).toBeGreaterThan(0.95);
    expectWithin(resultOf('offload').resident.hbm.kvPeakBytes, 2 * 536.9e6, 0.01);
  });

  test('TTKV moves its K8V4 blocks', () => {
    expectWithin(crossing('ttkv 16 blocks', 'dram->hbm'), 101e6, 0.02);
    expectWithin(crossing('ttkv 45 %', 'dram->hbm'), 2.7e9, 0.02);
    // 8192 tokens of bf16 in HBM, the rest at 49,152 bytes a token in DRAM.
    expectWithin(resultOf('ttkv 16 blocks').resident.dram.kvPeakBytes, 122880 * 49152, 0.001);
  });

  test('ParisKV moves its winners', () => {
    expectWithin(crossing('pariskv 100', 'dram->hbm'), 13.1e6, 0.02);
    expectWithin(crossing('pariskv 2048', 'dram->hbm'), 268e6, 0.02);
    expectWithin(hbmRead('pariskv 100'), 1.3e9, 0.05);
  });

  test('what attends more of the context keeps more of its mass', () => {
    const mass = (label: string): number => resultOf(label).quality?.massRecall.mean ?? 0;
    expect(mass('full')).toBe(1);
    expect(mass('pariskv 2048')).toBeGreaterThan(mass('pariskv 100'));
    expect(mass('ttkv 45 %')).toBeGreaterThan(mass('ttkv 16 blocks'));
  });
});

test('demoted tokens leave at the coded rate once per block', () => {
  const steps = 128;
  const spec = { preset: 'llama-3.1-8b', promptTokens: 2048, steps, seed: 1 };
  const experiment = compareExperimentSchema.parse({
    trace: { kind: 'synthetic', preset: 'llama-3.1-8b', spec },
    model: 'llama-3.1-8b',
    hardware: 'h100-sxm',
    stack: 'flashinfer-graphs',
    policies: [{ label: 'ttkv', name: 'ttkv', config: { fastTokens: 512 } }],
    contextTokens: 2048,
    steps,
    batch: 2,
    dense: false,
    elementBytes: 2,
    layers: [3],
    kvHeads: [0],
    seed: 1,
  });
  const { result } = compare({ experiment, trace: createSyntheticTrace(spec) });
  const traffic = result.policies[0].traffic['hbm->dram'];
  expect('bytes' in traffic && traffic.bytes).toBe(2 * 128 * 49152);
});
