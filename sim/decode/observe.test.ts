/** A policy that learns from what was attended: TOVA's rule (drop the least attended token), written as a test policy. */
import { expect, test } from 'vitest';
import { type Policy, policyDefaults, type StepView, type World } from '../policy/policy.ts';
import { createRandomTrace } from '../trace/random-trace.ts';
import { replayPolicies } from './replay.ts';
import { everyStep } from './step-sample.ts';

const shape = {
  layers: 1,
  heads: 4,
  kvHeads: 2,
  headDim: 32,
  promptTokens: 100,
  steps: 6,
  recordedLayers: [0],
};
const world: World = {
  layers: 1,
  heads: 4,
  kvHeads: 2,
  groupSize: 2,
  headDim: 32,
  kBytesPerToken: 64,
  vBytesPerToken: 64,
  promptTokens: 100,
  maxTokens: 106,
  fields: new Set(['k', 'v', 'q']),
};

interface Seen {
  readonly view: StepView;
  readonly sums: readonly number[];
}

const leastAttended = (seen: Seen[]): Policy => ({
  ...policyDefaults,
  learns: true,
  layer: () => ({
    onPrefill: (view) => {
      for (const head of view.heads) head.cache.drop(10, 20);
    },
    observe(view, probabilities) {
      const sums: number[] = [];
      view.heads.forEach((head, at) => {
        const shares = probabilities[at];
        let least = -1;
        for (let g = 0; g < 2; g++)
          sums.push(shares.subarray(g * view.length, (g + 1) * view.length).reduce((a, b) => a + b, 0));
        for (let token = 0; token < view.length; token++) {
          if (!head.cache.isLive(token)) {
            expect(shares[token]).toBe(0);
            continue;
          }
          const share = shares[token] + shares[view.length + token];
          if (least < 0 || share < shares[least] + shares[view.length + least]) least = token;
        }
        head.cache.drop(least, least + 1);
      });
      seen.push({ view, sums });
    },
  }),
});

test('a policy that learns sees softmax over its own tokens at every step, and keeps what it decides', () => {
  const seen: Seen[] = [];
  const sample = { layers: [0], kvHeads: [0, 1], ...everyStep };
  const trace = createRandomTrace({ shape, seed: 3 });
  const [run] = replayPolicies({ trace, world, sample, steps: 6, seed: 1, policies: [leastAttended(seen)] });
  expect(seen).toHaveLength(6);
  for (const { sums } of seen) for (const sum of sums) expect(sum).toBeCloseTo(1, 5);
  // One token in, one out: the cache stays at the 90 that the prompt left.
  expect(run.records.get(0)?.residency.map(({ liveTokens }) => liveTokens)).toEqual([91, 91, 91, 91, 91, 91]);
});
