/** A table never says a share outside those around a size, is exact at its points, means over sizes that it is not told. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadProfile, loadStack } from '../hardware/load.ts';
import type { Stack } from '../hardware/stack-schema.ts';
import { joiningOf, splitOf } from './attend-split.ts';
import { costOf, resolveMachine } from './cost.ts';
import { attendOf, gemmOf, selectOf } from './cost-cases.ts';
import { toCost } from './cost-flow.ts';
import { gemmCost } from './cost-products.ts';
import { soloNs } from './operation-cost.ts';
import { sizesOf } from './sizes.ts';
import { timeRatioOf, utilisationOf } from './utilisation.ts';

const source = { status: 'measured', source: 'a test', date: '2026-11' } as const;
const stackWith = (utilisation: NonNullable<Stack['utilisation']>): Stack => ({
  ...loadStack(),
  utilisation,
});

describe('a table of utilisation', () => {
  const table = {
    axes: [
      { of: 'rows' as const, at: [2, 8, 64] },
      { of: 'candidates' as const, at: [1024, 2048] },
    ],
    shares: [0.5, 1, 0.8, 0.25, 2, 1],
    ...source,
  };
  const { select } = utilisationOf(stackWith({ select: table }));

  it('is exact at its points, and holds the nearest share beyond its edge', () => {
    expect(timeRatioOf(select, { rows: 8, candidates: 2048 })).toBeCloseTo(4, 12);
    expect(timeRatioOf(select, { rows: 1, candidates: 16 })).toBeCloseTo(2, 12);
    expect(timeRatioOf(select, { rows: 1e6, candidates: 1e6 })).toBeCloseTo(1, 12);
  });

  it('goes along straight lines of logarithms between its points', () => {
    expect(timeRatioOf(select, { rows: 4, candidates: 1024 })).toBeCloseTo(1 / Math.sqrt(0.5 * 0.8), 12);
  });

  it('never leaves the shares around a size', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.1, max: 1e5, noNaN: true }),
        fc.double({ min: 1, max: 1e7, noNaN: true }),
        (rows, candidates) => {
          const ratio = timeRatioOf(select, { rows, candidates });
          expect(ratio).toBeGreaterThanOrEqual(1 / 2 - 1e-12);
          expect(ratio).toBeLessThanOrEqual(4 + 1e-12);
        },
      ),
      { seed: 42 },
    );
  });

  it('means over an axis whose size the work does not say, and says nothing without a table', () => {
    expect(timeRatioOf(select, { rows: 8 })).toBeCloseTo(1 / Math.sqrt(0.8 * 0.25), 12);
    expect(timeRatioOf(undefined, { rows: 8 })).toBe(1);
  });

  it('must have one share a point and ascending sizes', () => {
    const load = (change: object) => loadStack(stackWith({ select: { ...table, ...change } }), 'mine.json');
    expect(() => load({ shares: [1] })).toThrow(/utilisation\.select.*one share a point/);
    expect(() => load({ axes: [{ of: 'rows', at: [8, 2] }], shares: [1, 1] })).toThrow(/ascending sizes/);
    expect(() => load({ axes: [{ of: 'colour', at: [1] }], shares: [1] })).toThrow(/utilisation\.select/);
  });
});

describe('the laws of operations', () => {
  const half = { axes: [{ of: 'bytes' as const, at: [1e9] }], shares: [0.5], ...source };
  const rows = { axes: [{ of: 'rows' as const, at: [1] }], shares: [0.5], ...source };
  const stack = loadStack('kvtier-kernels');
  const plain = resolveMachine(loadProfile('h100-sxm'), stack);
  const slow = resolveMachine(loadProfile('h100-sxm'), {
    ...stack,
    utilisation: { attend: half, gemm: half, select: rows },
  });
  const attend = attendOf({ batch: 4, context: 8192, heads: 32, kvHeads: 8, headDim: 128, elementBytes: 2 });

  it('take twice as long at half the utilisation', () => {
    const ratio = (time: (machine: typeof plain) => number): number => time(slow) / time(plain);
    expect(ratio((machine) => soloNs(costOf(attend, machine)))).toBeCloseTo(2, 6);
    expect(ratio((machine) => soloNs(costOf(selectOf(32, 4096, 64), machine)))).toBeCloseTo(2, 6);
    const gemm = gemmOf(4, 4096, 4096, 2);
    expect(ratio((machine) => soloNs(gemmCost(machine, gemm, 2, 'bf16')))).toBeCloseTo(2, 6);
  });
});

describe('attention over coded KV', () => {
  const machine = resolveMachine(loadProfile('h100-sxm'), loadStack());
  const raw = attendOf({ batch: 1, context: 65_536, heads: 32, kvHeads: 8, headDim: 128, elementBytes: 2 });
  const bytes = (raw.readBytes.hbm ?? 0) / 4;
  const coded = (share: number, decodeFlops: number) => ({
    ...raw,
    flops: raw.flops + decodeFlops,
    readBytes: { hbm: bytes * share + 4 * bytes * (1 - share) },
    coded: [{ codec: 'int4', bytes: bytes * share, share, decodeFlops }],
  });
  const time = (operation: typeof raw) => soloNs(costOf(operation, machine));

  it('reads fewer bytes, and takes as long as decoding where that takes longer', () => {
    expect(time(coded(1, 0))).toBeLessThan(time(raw) / 2);
    const flops = 1e12;
    expect(time(coded(1, flops))).toBeGreaterThan(flops / machine.flopsPerNs.fp32);
  });

  it('is two kernels and a merge where raw KV lies beside it', () => {
    expect(time(coded(0.5, 0)) - (time(coded(1, 0)) + time(raw)) / 2).toBeGreaterThan(
      machine.decodeAttention.startNs / 2,
    );
  });
});

describe('time over what a law says', () => {
  const machine = resolveMachine(loadProfile('h100-sxm'), loadStack('kvtier-kernels'));
  const { rateBytesPerNs } = machine.resources.find(({ name }) => name === 'hbm') ?? { rateBytesPerNs: 1 };
  const ns = (timeRatio: number, boundNs: number) =>
    soloNs(
      toCost(machine, {
        fixedNs: 8000,
        amount: 1,
        bounds: [{ label: 'hbm', ns: boundNs }],
        takes: { hbm: 4000 * rateBytesPerNs },
        trust: { errorRatio: 0.1, anchored: true },
        inDomain: true,
        timeRatio,
      }),
    );

  it('scales the time of the whole, also where memory holds a flow up', () => {
    for (const boundNs of [1000, 4000, 9000])
      for (const timeRatio of [0.7, 0.999, 1.001, 1.5])
        expect(ns(timeRatio, boundNs)).toBeCloseTo(timeRatio * ns(1, boundNs), 6);
  });

  it('makes nothing faster than memory', () => {
    expect(ns(0.1, 1000)).toBeCloseTo(4000, 6);
  });
});

describe('tiles', () => {
  const stack = loadStack('kvtier-kernels');
  const stated = { status: 'measured', source: 'a test', date: '2026-11' } as const;
  const machine = resolveMachine(loadProfile('h100-sxm'), {
    ...stack,
    gemm: { ...stack.gemm, tokenTiles: { sizes: [8, 64], ...stated } },
    decodeAttention: { ...stack.decodeAttention, tileTokens: { raw: 16, coded: 32, ...stated } },
  });
  const gemmNs = (m: number) => soloNs(gemmCost(machine, gemmOf(m, 4096, 4096, 2), 2, 'bf16'));

  it('of tokens: a product takes as long as its tiles, one after the other', () => {
    expect(gemmNs(3)).toBeCloseTo(gemmNs(8), 6);
    expect(gemmNs(9)).toBeCloseTo(gemmNs(64), 6);
    expect(gemmNs(130)).toBeCloseTo(2 * gemmNs(64) + gemmNs(8), 6);
  });

  it('of KV: rows end within a block, or do not', () => {
    const turns = (context: number) =>
      sizesOf(
        attendOf({ batch: 1, context, heads: 32, kvHeads: 8, headDim: 128, elementBytes: 2 }),
        machine.tiling,
      ).turns;
    // 8 rows of 2048 tokens over 132 multiprocessors are 128 tokens each, 16 of which make a row.
    expect(turns(2048)).toBe(1);
    expect(turns(2052)).toBe(2);
    expect(turns(516)).toBe(1);
    const short = attendOf({ batch: 264, context: 64, heads: 8, kvHeads: 1, headDim: 128, elementBytes: 2 });
    expect(sizesOf(short, machine.tiling).turns).toBe(2);
  });

  it('of KV: a row is joined from its blocks’ parts, as many at a time as threads take', () => {
    const attendMerge = { parts: 8, blocks: [{ headDim: 128, queryRows: 8, threads: 384 }] };
    const tiling = { ...machine.tiling, attendMerge };
    const split = (heads: number, kvHeads: number, context: number) => {
      const one = attendOf({ batch: 1, context, heads, kvHeads, headDim: 128, elementBytes: 2 });
      const { parts } = splitOf(one, { bytes: 0, tokens: context, isCoded: false }, tiling);
      return { parts, rounds: joiningOf(one, { isCoded: false }, parts, tiling).rounds };
    };
    // 8 rows over 132 multiprocessors, 3 teams of 128 threads; 4 rows, one team of 224.
    expect(split(32, 8, 2048)).toEqual({ parts: 16, rounds: 1 });
    expect(split(28, 4, 4096)).toEqual({ parts: 32, rounds: 4 });
    expect(split(28, 4, 2050)).toEqual({ parts: 33, rounds: 5 });
  });

  it('of KV: blocks take whole rows where those are little longer than even stretches', () => {
    const split = (batch: number) => {
      const one = attendOf({ batch, context: 512, heads: 32, kvHeads: 8, headDim: 128, elementBytes: 2 });
      return splitOf(one, { bytes: 0, tokens: 512, isCoded: false }, machine.tiling);
    };
    // 256 rows over 132 multiprocessors: 64 tiles, not 63; 160 rows would take 64 instead of 39.
    expect(split(32)).toMatchObject({ turns: 2, parts: 1 });
    expect(split(20).parts).toBe(2);
  });

  it('of KV: further turns and rounds take their time', () => {
    const { accelerator } = loadProfile('h100-sxm');
    const number = (value: number) => ({ value, ...stated });
    const law = { turnNs: number(3000), mergeNs: number(2000), mergeRoundNs: number(1000) };
    const profileOf = (own: object) => ({
      ...loadProfile('h100-sxm'),
      accelerator: { ...accelerator, decodeAttention: { ...accelerator.decodeAttention, ...law, ...own } },
    });
    const split = { ...stack.decodeAttention, tileTokens: { raw: 16, coded: 32, ...stated } };
    const merge = { parts: 8, blocks: [{ headDim: 128, queryRows: 8, threads: 384 }], ...stated };
    const on = (own: object, numbers: object = {}) => {
      const known = resolveMachine(profileOf(numbers), { ...stack, decodeAttention: { ...split, ...own } });
      return (context: number) => {
        const shape = { batch: 1, context, heads: 28, kvHeads: 4, headDim: 128, elementBytes: 2 };
        return soloNs(costOf(attendOf(shape), known));
      };
    };
    // 4096 tokens are those of whole blocks; of 4160, a block has the end of a row and the beginning of the next.
    const further = (numbers: object) => on({}, numbers)(4160) - on({}, numbers)(4096);
    const alone = further({});
    expect(alone).toBeGreaterThan(3000);
    expect(alone).toBeLessThan(3000 + 500);
    // Where it may be the last with the first of them, it joins its parts too.
    expect(further({ skewNs: number(1e12) }) - alone).toBeCloseTo(1000, 3);
    // Reading hides a part of it: 4160 tokens are 8.5 MB, for 2.5 to 3.5 µs.
    const hidden = alone - further({ turnHiddenRatio: number(0.5) });
    expect(hidden).toBeGreaterThan(1200);
    expect(hidden).toBeLessThan(1800);
    expect(on({ merge })(4096) - on({})(4096)).toBeCloseTo(3 * 1000, 6);
  });
});
