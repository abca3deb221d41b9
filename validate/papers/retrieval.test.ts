/** Recall of indexes over a decode whose keys move away from those of the prompt. */
import { expect, test } from 'vitest';
import { createRandom } from '../../sim/engine/random.ts';
import { mean } from '../../sim/engine/stats.ts';
import type { AttentionTrace } from '../../sim/trace/attention-trace.ts';
import { createRandomTrace } from '../../sim/trace/random-trace.ts';
import { recallBySteps } from './retrieval.ts';

const shape = {
  layers: 1,
  heads: 2,
  kvHeads: 1,
  headDim: 32,
  promptTokens: 400,
  steps: 1600,
  recordedLayers: [0],
};
const tokens = shape.promptTokens + shape.steps;

const TOPICS = 40;

/** Keys near one of some centres: all along of the same ones, or (`moves`) of others once the prompt is over. */
const drifting = (moves: boolean): AttentionTrace => {
  const random = createRandom(1, 'keys');
  const centres = Float32Array.from({ length: 2 * TOPICS * shape.headDim }, () => 3 * random.normal());
  const keys = new Float32Array(tokens * shape.headDim);
  for (let token = 0; token < tokens; token++) {
    const isNew = moves && token >= shape.promptTokens;
    const centre = (isNew ? TOPICS : 0) + random.integer(TOPICS);
    for (let c = 0; c < shape.headDim; c++)
      keys[token * shape.headDim + c] = centres[centre * shape.headDim + c] + random.normal();
  }
  const queries = new Float32Array(shape.heads * shape.headDim);
  return {
    ...createRandomTrace({ shape, seed: 1 }),
    keys: () => keys,
    queries: (_, step) => {
      createRandom(step, 'query').fillNormal(queries);
      return queries;
    },
  };
};

const ends = (name: string, config: Readonly<Record<string, unknown>>, trace: AttentionTrace) => {
  const steps = [...recallBySteps({ policy: { name, config }, steps: shape.steps }, trace)];
  const quarter = steps.length / 4;
  const of = (part: typeof steps): number => mean(part.flatMap(([, recalls]) => recalls));
  return { first: of(steps.slice(0, quarter)), last: of(steps.slice(-quarter)) };
};

const pq = { ratio: 0.2501, recentRatio: 0, sinkTokens: 0, cacheTokens: 0 };
const paris = { topK: 100, sinkTokens: 0, localTokens: 1, updateTokens: 1, minTokens: 0 };

test('full attention finds everything', () => {
  expect(ends('full', {}, drifting(true))).toEqual({ first: 1, last: 1 });
});

test('centroids of the prompt age as keys drift, centroids that no key has a say in do not', () => {
  const [still, drifted] = [false, true].map(drifting);
  const lost = (name: string, config: Readonly<Record<string, unknown>>): number =>
    ends(name, config, still).last - ends(name, config, drifted).last;
  expect(lost('pqcache', pq)).toBeGreaterThan(0.15);
  expect(lost('pariskv', paris)).toBeLessThan(0.05);
  expect(ends('pariskv', paris, drifted).last).toBeGreaterThan(2 * ends('pqcache', pq, drifted).last);
});
