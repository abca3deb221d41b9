/**
 * Laws of the cost model that must hold on every profile and stack, for any operation: monotone in the work, within
 * every resource's capacity, never faster than peak, intervals around the prediction.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadProfile, loadStack, profileNames, stackNames } from '../hardware/load.ts';
import type { Operation } from '../program/operation.ts';
import { costOf, resolveMachine } from './cost.ts';
import { attendOf, gatherOf, gemmOf } from './cost-cases.ts';
import { gemmCost } from './cost-products.ts';
import { soloNs } from './operation-cost.ts';

const machineOf = (name: string, stack?: string) => resolveMachine(loadProfile(name), loadStack(stack));

const rowsOf = fc.integer({ min: 1, max: 100_000 });
const bytesOf = fc.integer({ min: 16, max: 1 << 20 });
const modeOf = fc.constantFrom('dma', 'dma-batch', 'pageable', 'uva', 'cpu-gather');

/** Any operation, and the same one with more to do. */
const growing = fc.oneof(
  fc.tuple(rowsOf, bytesOf, modeOf, fc.boolean()).map(([rows, rowBytes, mode, spill]) => {
    const base = { rows, rowBytes, mode, layer: 0, stream: 'h2d', after: [] } as const;
    const tiers = spill
      ? ({ kind: 'spill', from: 'hbm', to: 'dram' } as const)
      : ({ kind: 'fetch', from: 'dram', to: 'hbm' } as const);
    return [
      { ...base, ...tiers },
      { ...base, ...tiers, rows: rows * 2 },
    ] as const;
  }),
  fc.tuple(rowsOf, bytesOf).map(([rows, rowBytes]) => {
    const of = (factor: number): Operation =>
      gatherOf({ tier: 'hbm', mode: 'uva', rows, rowBytes: rowBytes * factor });
    return [of(1), of(2)] as const;
  }),
  fc
    .tuple(
      fc.integer({ min: 1, max: 64 }),
      fc.integer({ min: 16, max: 500_000 }),
      fc.constantFrom(1, 2, 8, 32),
      fc.constantFrom(64, 128, 256),
    )
    .map(([batch, context, kvHeads, headDim]) => {
      const of = (tokens: number): Operation =>
        attendOf({ batch, context: tokens, heads: 32, kvHeads, headDim, elementBytes: 2 });
      return [of(context), of(context + 1000)] as const;
    }),
  fc.tuple(fc.integer({ min: 2, max: 30_000 }), fc.integer({ min: 1, max: 8 })).map(([tokens, batch]) => {
    const of = (s: number): Operation =>
      attendOf({ batch, queries: s, context: s, heads: 32, kvHeads: 8, headDim: 128, elementBytes: 2 });
    return [of(tokens), of(tokens + 500)] as const;
  }),
  fc
    .tuple(
      fc.integer({ min: 1, max: 10_000 }),
      fc.integer({ min: 64, max: 20_000 }),
      fc.constantFrom(1, 2, 4),
    )
    .map(([m, n, elementBytes]) => {
      const of = (rows: number): Operation => ({
        kind: 'dense',
        part: 'x',
        gemms: [gemmOf(rows, n, 4096, elementBytes)],
        elementBytes,
        layer: 0,
        stream: 'compute',
        after: [],
      });
      return [of(m), of(m + 100)] as const;
    }),
  fc.tuple(fc.integer({ min: 1, max: 512 }), fc.integer({ min: 64, max: 1_000_000 })).map(([rows, of]) => {
    const select = (count: number): Operation => ({
      kind: 'select',
      rows,
      of: count,
      k: 64,
      layer: 0,
      stream: 'compute',
      after: [],
    });
    return [select(of), select(of + 5000)] as const;
  }),
  fc.tuple(bytesOf, fc.integer({ min: 0, max: 1e9 })).map(([bytes, flops]) => {
    const score = (factor: number): Operation => ({
      kind: 'score',
      index: 'x',
      readBytes: { hbm: bytes * factor, dram: bytes },
      writeBytes: { hbm: bytes },
      flops,
      kernels: 3,
      where: 'gpu',
      layer: 0,
      stream: 'compute',
      after: [],
    });
    return [score(1), score(4)] as const;
  }),
);

const machines = profileNames.flatMap((name) => stackNames.map((stack) => machineOf(name, stack)));

describe('on every profile and stack', () => {
  const anywhere = fc.tuple(fc.constantFrom(...machines), growing);

  it('more work never takes less time', () => {
    fc.assert(
      fc.property(anywhere, ([machine, [less, more]]) => {
        return soloNs(costOf(more, machine)) >= soloNs(costOf(less, machine)) * (1 - 1e-12);
      }),
      { seed: 42, numRuns: 1500 },
    );
  });

  it('a flow alone stays within every resource, so its solo time is real', () => {
    fc.assert(
      fc.property(anywhere, ([machine, [operation]]) => {
        const cost = costOf(operation, machine);
        return cost.demands.every(({ resource, bytesPerAmount }) => {
          const capacity = machine.resources.find(({ name }) => name === resource)?.rateBytesPerNs ?? 0;
          return cost.soloRatePerNs * bytesPerAmount <= capacity * (1 + 1e-9);
        });
      }),
      { seed: 42, numRuns: 1500 },
    );
  });

  it('intervals hold the prediction, and numbers are finite', () => {
    fc.assert(
      fc.property(anywhere, ([machine, [operation]]) => {
        const { fixedNs, amount, soloRatePerNs, intervalRatio } = costOf(operation, machine);
        const [lo, hi] = intervalRatio;
        return (
          lo > 0 &&
          lo <= 1 &&
          hi >= 1 &&
          Number.isFinite(hi) &&
          fixedNs >= 0 &&
          amount >= 0 &&
          soloRatePerNs > 0
        );
      }),
      { seed: 42, numRuns: 1500 },
    );
  });

  it('attention and products never beat the peak of HBM or of the tensor cores', () => {
    for (const machine of machines) {
      const attend = attendOf({
        batch: 4,
        context: 500_000,
        heads: 32,
        kvHeads: 8,
        headDim: 128,
        elementBytes: 2,
      });
      const bytes = attend.readBytes.hbm ?? 0;
      expect(bytes / soloNs(costOf(attend, machine))).toBeLessThanOrEqual(machine.hbm.peakBytesPerNs);
      const profile = loadProfile(machine.name);
      const peak = profile.accelerator.compute.bf16.peakTflops.value * 1000;
      const product = soloNs(gemmCost(machine, gemmOf(8192, 8192, 8192, 2), 2, 'bf16'));
      expect((2 * 8192 ** 3) / product).toBeLessThanOrEqual(peak);
    }
  });
});
