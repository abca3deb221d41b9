/** Steps that are left out of a replay: which choices stand for them, and what that does to the traffic of caches. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { worldOf } from '../../test/policy-cases.ts';
import { createRandom } from '../engine/random.ts';
import { mean } from '../engine/stats.ts';
import { createPolicy } from '../policy/create-policy.ts';
import { findPolicy } from '../policy/find-policy.ts';
import type { AttentionTrace } from '../trace/attention-trace.ts';
import { createRandomTrace } from '../trace/random-trace.ts';
import { replayPolicies } from './replay.ts';
import { countedStep, everyStep, isAdjacent, isChosen, isMeasured, type StepSample } from './step-sample.ts';

test('every step is represented by a choice that was made, adjacent wherever there are adjacent ones', () => {
  const samples = fc.integer({ min: 1, max: 12 }).chain((everySteps) =>
    fc.record({
      everySteps: fc.constant(everySteps),
      leadSteps: fc.integer({ min: 0, max: everySteps - 1 }),
      step: fc.nat(60),
    }),
  );
  fc.assert(
    fc.property(samples, ({ step, ...sample }) => {
      const counted = countedStep(sample, step);
      expect(counted).toBeLessThanOrEqual(step);
      expect(isChosen(sample, counted)).toBe(true);
      if (sample.leadSteps > 0) expect(isAdjacent(sample, counted)).toBe(true);
      if (sample.leadSteps === sample.everySteps - 1) expect(counted).toBe(step);
      if (isMeasured(sample, step)) expect(counted).toBe(step);
      // The cold start is real, but happens once.
      if (sample.leadSteps > 0 && step > 0) expect(counted).toBeGreaterThan(0);
    }),
    { seed: 42 },
  );
});

const shape = {
  layers: 1,
  heads: 2,
  kvHeads: 1,
  headDim: 32,
  promptTokens: 1500,
  steps: 128,
  recordedLayers: [0],
};
/** Share of a query that its step before does not explain. */
const NOVELTY = 0.1;

/** Queries that drift, as those of text do: choices change by a few tokens a step. */
const drifting = (): AttentionTrace => {
  const random = createRandom(3, 'queries');
  const rows: Float32Array[] = [];
  const size = shape.heads * shape.headDim;
  const keep = Math.sqrt(1 - NOVELTY ** 2);
  for (let step = 0; step < shape.steps; step++) {
    const before = rows[step - 1] ?? Float32Array.from({ length: size }, () => 4 * random.normal());
    rows.push(before.map((x) => keep * x + NOVELTY * 4 * random.normal()));
  }
  return { ...createRandomTrace({ shape, seed: 1 }), queries: (_, step) => rows[step] };
};

const world = worldOf(shape);
const cached = {
  quest: { tier: 'dram', budgetTokens: 128, pageTokens: 4, hotPages: 64, denseLayers: 0 },
  retroinfer: { iterations: 2 },
  pqcache: { iterations: 2, cacheTokens: 512, blockTokens: 32 },
  arkvale: { pageTokens: 4, topkPages: 16, budgetPages: 48, denseLayers: 0 },
};

/** By policy: mean tokens a step that cross the link. */
const crossing = (trace: AttentionTrace, steps: StepSample): readonly number[] => {
  const policies = Object.entries(cached).map(([name, config]) =>
    createPolicy(findPolicy(name), config, world),
  );
  const sample = { layers: [0], kvHeads: [0], ...steps };
  return replayPolicies({ trace, world, sample, steps: shape.steps, seed: 1, policies }).map(({ records }) =>
    mean(
      records.get(0)?.choices.map(({ fetchTokens, refillTokens }) => fetchTokens[0] + refillTokens[0]) ?? [],
    ),
  );
};

test('where choices are made in a row, caches cross the link as much as they do in a whole replay', () => {
  const trace = drifting();
  const whole = crossing(trace, everyStep);
  const ratios = (sample: StepSample) => crossing(trace, sample).map((tokens, at) => tokens / whole[at]);
  expect(crossing(trace, { everySteps: 8, leadSteps: 7 })).toEqual(whole);
  // Caches of several choices are still a little stale after a gap; without steps before it a choice finds what was left
  // 32 steps ago.
  for (const ratio of ratios({ everySteps: 32, leadSteps: 15 }))
    expect(Math.abs(ratio - 1)).toBeLessThan(0.3);
  for (const ratio of ratios({ everySteps: 32, leadSteps: 0 })) expect(ratio).toBeGreaterThan(4);
});
