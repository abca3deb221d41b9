/** What a policy learns from the prompt: a survey of all layers before the first is placed, and the future only if it asks. */
import { expect, test } from 'vitest';
import { type Policy, type PromptView, policyDefaults, type World } from '../policy/policy.ts';
import type { AttentionTrace } from '../trace/attention-trace.ts';
import { createRandomTrace } from '../trace/random-trace.ts';
import { replayPolicies } from './replay.ts';
import { everyStep } from './step-sample.ts';

const shape = {
  layers: 4,
  heads: 4,
  kvHeads: 2,
  headDim: 8,
  promptTokens: 20,
  steps: 3,
  recordedLayers: [0, 1, 3],
};
const world: World = {
  layers: 4,
  heads: 4,
  kvHeads: 2,
  groupSize: 2,
  headDim: 8,
  kBytesPerToken: 16,
  vBytesPerToken: 16,
  promptTokens: 20,
  maxTokens: 23,
  fields: new Set(['k', 'v', 'q', 'utility']),
};
const random = createRandomTrace({ shape, seed: 4 });
const trace: AttentionTrace = {
  ...random,
  has: (field, layer) => (field === 'utility' && layer === 3) || random.has(field, layer),
  learnedScores: (_field, layer, kvHead) => new Float32Array(20).fill(10 * layer + kvHead),
};

const watching = (calls: string[], views: PromptView[], change: Partial<Policy>): Policy => ({
  ...policyDefaults,
  survey: (view) => {
    calls.push(`survey ${view.layer}`);
    views.push(view);
  },
  layer: (layer) => ({ onPrefill: () => calls.push(`place ${layer}`) }),
  ...change,
});

const run = (change: Partial<Policy>) => {
  const calls: string[] = [];
  const views: PromptView[] = [];
  const sample = { layers: [0, 1, 3], kvHeads: [1], ...everyStep };
  const policies = [watching(calls, views, change)];
  replayPolicies({ trace, world, sample, steps: 3, seed: 1, policies });
  return { calls, views };
};

test('all layers that are not dense are surveyed before the first is placed', () => {
  const { calls } = run({ isDenseLayer: (layer) => layer === 0 });
  expect(calls).toEqual(['survey 1', 'survey 3', 'place 1', 'place 3']);
});

test('the future is hidden, unless the policy is an oracle', () => {
  for (const view of run({}).views) expect(view.futureQueries(0)).toBeNull();
  const future = run({ oracle: true }).views[1].futureQueries(0);
  expect(future?.windowTokens).toBe(3);
  const steps = [0, 1, 2].flatMap((step) => [...trace.queries(1, step, 1)]);
  expect([...(future?.q ?? [])]).toEqual(steps);
});

test('learned scores are those of the KV head, where the layer has them', () => {
  const [first, , last] = run({}).views;
  expect(first.learnedScores('utility', 0)).toBeNull();
  expect(last.learnedScores('gate', 0)).toBeNull();
  expect(last.learnedScores('utility', 0)?.[5]).toBe(31);
});
