/** What of a trace is replayed: everything where that is cheap, a seeded stratified sample where it is not. */
import { describe, expect, test } from 'vitest';
import { chooseSample, type SampleRequest } from './sampling.ts';
import { everyStep } from './step-sample.ts';

const shapeOf = (promptTokens: number, layers = 32) => ({
  layers,
  heads: 32,
  kvHeads: 8,
  headDim: 128,
  promptTokens,
  steps: 64,
  recordedLayers: Array.from({ length: layers }, (_, layer) => layer),
});
const request: SampleRequest = { layers: 'auto', kvHeads: 'auto', steps: 64, seed: 1, excludedLayers: [] };
const heads = (tokens: number): number => {
  const { layers, kvHeads } = chooseSample(shapeOf(tokens), request);
  return layers.length * kvHeads.length;
};

describe('auto', () => {
  test('lets policies choose at every step of a usual run, and in runs of some steps in a very long one', () => {
    for (const tokens of [8192, 32768, 131072]) {
      const { everySteps, leadSteps } = chooseSample(shapeOf(tokens), request);
      expect(leadSteps).toBe(everySteps - 1);
    }
    const { everySteps, leadSteps } = chooseSample(shapeOf(131072), { ...request, steps: 8192 });
    expect(leadSteps).toBeGreaterThanOrEqual(15);
    expect(leadSteps).toBeLessThan(everySteps / 2);
  });

  test('replays everything of a short trace', () => {
    const sample = chooseSample(shapeOf(256, 4), request);
    expect(sample).toEqual({ layers: [0, 1, 2, 3], kvHeads: [0, 1, 2, 3, 4, 5, 6, 7], ...everyStep });
  });

  test('replays less of a longer one, and something of any', () => {
    const counts = [1024, 8192, 32768, 131072, 1_048_576].map(heads);
    expect(counts).toEqual([...counts].sort((a, b) => b - a));
    expect(counts[4]).toBe(2);
    expect(counts[2]).toBeGreaterThanOrEqual(8);
  });

  test('draws one layer of each equal part of those that are not excluded, by the seed alone', () => {
    const some = { ...request, excludedLayers: [0, 1, 2, 3] };
    const sample = chooseSample(shapeOf(32768), some);
    expect(chooseSample(shapeOf(32768), some)).toEqual(sample);
    const size = 28 / sample.layers.length;
    for (const [i, layer] of sample.layers.entries()) {
      expect(layer - 4).toBeGreaterThanOrEqual(Math.floor(i * size));
      expect(layer - 4).toBeLessThan(Math.floor((i + 1) * size));
    }
    expect(chooseSample(shapeOf(32768), { ...some, seed: 2 }).layers).not.toEqual(sample.layers);
  });
});

test('lists and "all" are taken as they are; a layer that is not recorded is refused', () => {
  const sample = chooseSample(shapeOf(131072), { ...request, layers: [5, 2, 5], kvHeads: 'all' });
  expect(sample.layers).toEqual([2, 5]);
  expect(sample.kvHeads.length).toBe(8);
  const all = chooseSample(shapeOf(32768), { ...request, layers: 'all', kvHeads: 'all' });
  expect([all.layers.length, all.kvHeads.length]).toEqual([32, 8]);
  expect(64 / chooseSample(shapeOf(32768), { ...request, layers: 'all' }).everySteps).toBeGreaterThan(2);
  expect(() => chooseSample(shapeOf(1024, 4), { ...request, layers: [4] })).toThrow(
    /layer 4 is not in the trace/,
  );
});
