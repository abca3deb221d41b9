/** What single parameters of a policy do to a replay, beyond what the contract of all policies says. */
import { expect, test } from 'vitest';
import { worldOf } from '../../test/policy-cases.ts';
import { createPolicy } from '../policy/create-policy.ts';
import { findPolicy } from '../policy/find-policy.ts';
import { createRandomTrace } from '../trace/random-trace.ts';
import { type PolicyReplay, replayPolicies } from './replay.ts';
import { everyStep } from './step-sample.ts';

const shape = {
  layers: 4,
  heads: 8,
  kvHeads: 2,
  headDim: 32,
  promptTokens: 700,
  steps: 12,
  recordedLayers: [2],
};

const replay = (name: string, config: Record<string, unknown>): PolicyReplay => {
  const world = worldOf(shape);
  const policies = [createPolicy(findPolicy(name), config, world)];
  const sample = { layers: [2], kvHeads: [0, 1], ...everyStep };
  const trace = createRandomTrace({ shape, seed: 7 });
  return replayPolicies({ trace, world, sample, steps: shape.steps, seed: 1, policies })[0];
};

test('adaptive K retrieves no more than its cap, and less where few tokens matter', () => {
  const sizes = { localTokens: 32, minTokens: 0 };
  const tokensOf = (config: Record<string, unknown>): number =>
    replay('pariskv', { ...sizes, ...config }).records.get(2)?.choices[0].attendTokens ?? 0;
  const capped = tokensOf({ topK: 200 });
  expect(tokensOf({ topK: 200, coverage: 0.6 })).toBeLessThan(capped);
  expect(tokensOf({ topK: 200, coverage: 0.3 })).toBeLessThan(tokensOf({ topK: 200, coverage: 0.6 }));
  expect(tokensOf({ topK: 200, coverage: 1 })).toBeLessThanOrEqual(capped);
});

test('coded KV costs output error, not mass', () => {
  const coded = replay('ttkv', { blockTokens: 32, fastTokens: 128, slowShare: 1 });
  const errors = coded.quality.outputError;
  expect(Math.max(...errors)).toBeGreaterThan(1e-4);
  expect(errors.reduce((a, b) => a + b, 0) / errors.length).toBeLessThan(0.1);
});
