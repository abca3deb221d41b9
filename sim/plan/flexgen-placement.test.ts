/** FlexGen's placement on the machine and models of its paper, against its measured throughput and against plain search. */
import { describe, expect, test } from 'vitest';
import {
  bestPlacement,
  type PlacementDemand,
  type PlacementRequest,
  placeBlock,
  type Shares,
} from './flexgen-placement.ts';

const GIB = 2 ** 30;

/** OPT as cost_model.py counts it: 16 bits, K and V of all heads, eager prefill attention. */
const opt = (hidden: number, layers: number, heads: number, s = 512): PlacementDemand => {
  const weights = 4 * hidden * hidden + 2 * hidden * 4 * hidden;
  const n = 32;
  return {
    layers,
    promptTokens: s,
    generatedTokens: n,
    weightBytes: 2 * weights,
    kvBytes: 4 * hidden,
    activationBytes: 2 * hidden,
    denseFlops: 2 * weights,
    attentionFlops: 4 * hidden,
    promptWorkBytes: 18 * s * hidden + 2 * heads * s * s + 8 * s * hidden,
    stepWorkBytes: 14 * hidden + 8 * hidden,
  };
};
const opt30b = opt(7168, 48, 56);
const opt175b = opt(12288, 96, 96);

/** A T4 on Google Cloud, constants fitted by the authors (cost_model.py CostModelConfig). */
const perNs = (gib: number): number => (gib * GIB) / 1e9;
const t4: Omit<PlacementRequest, 'demand'> = {
  rates: (batch) => ({
    toGpu: perNs(12.89),
    kvFromGpu: perNs(0.97),
    activationsFromGpu: perNs(4.82),
    fromNvme: perNs(0.473),
    kvToNvme: perNs(0.746),
    stepToNvme: perNs(2.015),
    promptFlops: 21_240,
    promptAttentionFlops: 9970,
    stepFlops: 4300,
    weightReads: Infinity,
    gpuAttention: 79,
    // Few sequences at a time keep fewer cores busy.
    cpuAttention: 12.3 * Math.max(0.1, 1 - 0.0328 * Math.max(0, Math.log2(64 / batch))),
  }),
  capacity: { hbm: 0.8 * 15 * GIB, dram: 0.8 * 204 * GIB, nvme: 0.8 * 1500 * GIB },
  attendAt: 'cpu',
};
const shares = (hbm: number, dram: number): Shares => ({ hbm, dram, nvme: 1 - hbm - dram });
/** The relaxed memory limits with which the authors estimate a given policy (cost_model.py, its second example). */
const relaxed = { hbm: 1.2 * 16 * GIB, dram: 1.2 * 200 * GIB, nvme: 1.2 * 1500 * GIB };

/** The placement of bench_suite.py for prompts of 512 tokens, and its throughput in Table 2. */
const published = { weights: shares(0.2, 0.8), cache: shares(0, 1), activations: shares(0, 1) };
const PUBLISHED_TOKENS_PER_S = 7.32;

describe('OPT-30B on a T4, 3 batches of 48', () => {
  const request = { ...t4, demand: opt30b, capacity: relaxed };

  test('the published placement runs as fast as was measured', () => {
    const found = placeBlock({ ...request, fixed: published }, 48, 3);
    expect(Math.abs((found?.tokensPerS ?? 0) / PUBLISHED_TOKENS_PER_S - 1)).toBeLessThan(0.05);
  });

  test('and is what the search finds, to a percent of the weights', () => {
    const found = placeBlock(request, 48, 3);
    expect(found?.weights.hbm).toBeCloseTo(0.2, 1.7);
    expect(found?.weights.nvme).toBe(0);
    expect(found?.cache.dram).toBeCloseTo(1, 6);
    expect(found?.activations.dram).toBeCloseTo(1, 3);
  });
});

/** bench_suite.py, suite_30b_1x1: prompt, GPU share of the weights, block, and the throughput noted beside it or in Table 2. */
test.each([
  [256, 0.1, 160, 2, 16.01],
  [512, 0.2, 48, 3, 7.32],
])(
  'OPT-30B with prompts of %d tokens runs as published, within a fifth',
  (prompt, hbm, batch, batches, measured) => {
    const demand = opt(7168, 48, 56, prompt);
    const request = { ...t4, demand, capacity: relaxed };
    const fixed = { weights: shares(hbm, 1 - hbm), cache: shares(0, 1), activations: shares(0, 1) };
    const found = placeBlock({ ...request, fixed }, batch, batches);
    expect(Math.abs((found?.tokensPerS ?? 0) / measured - 1)).toBeLessThan(0.2);
    const free = placeBlock(request, batch, batches);
    expect(Math.abs((free?.weights.hbm ?? 1) - hbm)).toBeLessThan(0.06);
  },
);

/** What was published for larger and smaller models, by where it lies (bench_suite.py suites 6b7 and 175b). */
test('OPT-6.7B stays on the GPU, most of OPT-175B and all but a little of its KV lie outside DRAM and HBM', () => {
  const small = placeBlock({ ...t4, demand: opt(4096, 32, 32), capacity: relaxed }, 2, 1);
  for (const kind of ['weights', 'cache', 'activations'] as const)
    expect(small?.[kind].hbm).toBeCloseTo(1, 6);
  const large = placeBlock({ ...t4, demand: opt175b, capacity: relaxed }, 32, 8);
  expect(large?.weights.dram).toBeCloseTo(0.5, 1);
  expect(large?.weights.hbm).toBeLessThan(0.05);
  expect(large?.cache.nvme).toBeGreaterThan(0.85);
  expect(large?.activations.dram).toBeCloseTo(1, 3);
});

test('no placement on a grid is faster, and none that fits is missed', () => {
  const request = { ...t4, demand: opt175b };
  const best = placeBlock(request, 8, 4);
  const steps = [0, 0.25, 0.5, 0.75, 1];
  const all = steps.flatMap((hbm) =>
    steps.filter((dram) => hbm + dram <= 1).map((dram) => shares(hbm, dram)),
  );
  let fits = 0;
  for (const weights of all)
    for (const cache of all)
      for (const activations of [shares(0, 1), shares(1, 0)]) {
        const found = placeBlock({ ...request, fixed: { weights, cache, activations } }, 8, 4);
        if (found === null) continue;
        fits++;
        expect(found.tokensPerS).toBeLessThanOrEqual((best?.tokensPerS ?? 0) * (1 + 1e-6));
      }
  expect(fits).toBeGreaterThan(10);
});

describe('what a machine has decides', () => {
  const small = opt(2048, 24, 32);
  const placed = (capacity: Partial<PlacementRequest['capacity']>, attendAt: 'cpu' | 'gpu' = 'cpu') =>
    placeBlock({ ...t4, demand: small, attendAt, capacity: { ...t4.capacity, ...capacity } }, 8, 2);

  test('all of it in HBM where there is room', () => {
    for (const { hbm } of ['weights', 'cache', 'activations'].map(
      (kind) => placed({ hbm: 1e12 })?.[kind as 'cache'] ?? shares(0, 0),
    ))
      expect(hbm).toBeCloseTo(1, 6);
  });

  test('nothing where there is none', () => {
    expect(placed({ hbm: 1e6 })).toBeNull();
    expect(placed({ hbm: 2e9, dram: 1e6, nvme: 1e6 })).toBeNull();
  });

  test('KV that the GPU attends is kept out of DRAM longer than KV that the CPU attends slowly', () => {
    const hbm = 4e9;
    const cacheAt = (attendAt: 'cpu' | 'gpu') => placed({ hbm }, attendAt)?.cache.hbm ?? 0;
    expect(cacheAt('cpu')).toBeGreaterThan(0);
    expect(cacheAt('cpu')).toBeLessThan(1);
    expect(placed({ hbm: 2 * hbm })?.tokensPerS).toBeGreaterThan(placed({ hbm })?.tokensPerS ?? Infinity);
    expect(cacheAt('gpu')).not.toBe(cacheAt('cpu'));
  });

  test('the search over block sizes beats any one block', () => {
    const request = { ...t4, demand: small };
    const best = bestPlacement(request)?.tokensPerS ?? 0;
    for (const [batch, batches] of [
      [1, 1],
      [4, 2],
      [32, 4],
    ])
      expect(placeBlock(request, batch, batches)?.tokensPerS ?? 0).toBeLessThanOrEqual(best);
  });

  test('the number of batches is the best there is, and a limit on sequences holds', () => {
    const request = { ...t4, demand: small, capacity: { hbm: 1.5e9, dram: 16e9, nvme: 0 } };
    const found = bestPlacement(request);
    for (let batches = 1; batches < 60; batches++)
      expect(placeBlock(request, found?.batch ?? 1, batches)?.tokensPerS ?? 0).toBeLessThanOrEqual(
        (found?.tokensPerS ?? 0) * (1 + 1e-9),
      );
    const few = bestPlacement(request, 6);
    expect((few?.batch ?? 9) * (few?.batches ?? 9)).toBeLessThanOrEqual(6);
    expect(few?.tokensPerS).toBeLessThan(found?.tokensPerS ?? 0);
  });
});
