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
const opt = (hidden: number, layers: number, heads: number): PlacementDemand => {
  const weights = 4 * hidden * hidden + 2 * hidden * 4 * hidden;
  const [s, n] = [512, 32];
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
});
