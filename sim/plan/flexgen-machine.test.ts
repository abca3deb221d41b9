/** Placements on machines of the catalog: what their sizes and links make of a model. */
import { describe, expect, test } from 'vitest';
import { flexgenPlacement, type PlacementInput } from './flexgen-machine.ts';

const onH100 = (change: Partial<PlacementInput> = {}) =>
  flexgenPlacement({
    hardware: 'h100-sxm',
    model: 'llama-3.1-8b',
    promptTokens: 32_768,
    generatedTokens: 128,
    block: { batch: 1, batches: 1 },
    ...change,
  });
const weightsInHbm = { weights: { hbm: 1, dram: 0, nvme: 0 } };

describe('a placement on an H100', () => {
  test('keeps one sequence of a small model in HBM', () => {
    const found = onH100();
    for (const kind of ['weights', 'cache', 'activations'] as const)
      expect(found?.[kind].hbm).toBeCloseTo(1, 6);
  });

  test('fills HBM with KV, then DRAM, as sequences grow in number', () => {
    const inHbm = [4, 16, 64].map((batches) => {
      const found = onH100({ fixed: weightsInHbm, block: { batch: 1, batches } });
      const { hbm = 0, dram = 0, nvme = 0 } = found?.cache ?? {};
      expect(hbm + dram + nvme).toBeCloseTo(1, 6);
      return hbm;
    });
    expect(inHbm[0]).toBeCloseTo(1, 6);
    expect(inHbm[1]).toBeLessThan(0.9);
    expect(inHbm[2]).toBeLessThan(inHbm[1]);
  });

  test('a larger model needs DRAM for its weights', () => {
    const found = onH100({ model: 'llama-3.1-70b' });
    expect(found?.weights.hbm).toBeGreaterThan(0.2);
    expect(found?.weights.dram).toBeGreaterThan(0.3);
    expect(onH100({ model: 'llama-3.1-70b', fixed: weightsInHbm })).toBeNull();
  });

  test('bad input is named', () => {
    expect(() => onH100({ promptTokens: 0 })).toThrow(/promptTokens/);
    expect(() => onH100({ fixed: { cache: { hbm: 1, dram: 1, nvme: 0 } } })).toThrow(/add up to 1/);
    expect(() => onH100({ hardware: 'h1000' })).toThrow(/h1000/);
  });
});
