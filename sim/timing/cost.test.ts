/**
 * The cost model against measured and published tables; cost-laws.test.ts holds what must be true everywhere.
 * Measured points: one H100 SXM5 80 GB, PCIe 5.0 host, CUDA 13.0, 2026-11; event times less the empty region's.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadProfile, loadStack } from '../hardware/load.ts';
import { type Operation, PIECE_BYTES } from '../program/operation.ts';
import { costOf, resolveMachine } from './cost.ts';
import { attendOf, gatherOf, gemmOf } from './cost-cases.ts';
import { gemmCost } from './cost-products.ts';
import { soloNs } from './operation-cost.ts';

const machineOf = (name: string, stack?: string) => resolveMachine(loadProfile(name), loadStack(stack));
const h100 = machineOf('h100-sxm');
const timeUs = (operation: Operation, machine = h100): number => soloNs(costOf(operation, machine)) / 1000;

const meanError = (pairs: readonly (readonly [number, number])[]): number =>
  pairs.reduce((sum, [predicted, truth]) => sum + Math.abs(predicted / truth - 1), 0) / pairs.length;

const copyOf = (
  rows: number,
  rowBytes: number,
  mode: 'dma' | 'dma-batch' | 'pageable' = 'dma',
): Operation => ({
  kind: 'fetch',
  from: 'dram',
  to: 'hbm',
  rows,
  rowBytes,
  mode,
  layer: 0,
  stream: 'h2d',
  after: [],
});

describe('copies on an H100 host', () => {
  // [calls, bytes a call, µs]
  const single = [
    [1, 65_536, 5.09],
    [1, 262_144, 8.51],
    [1, 1_048_576, 22.62],
    [1, 16_777_216, 306.9],
    [1, 268_435_456, 4867],
    [1, 1_073_741_824, 19_483],
  ] as const;
  const loops = [
    [4096, 256, 9662],
    [256, 4096, 636],
    [256, 65_536, 1007],
    [4096, 131_072, 20_505],
    [256, 262_144, 1899],
    [256, 1_048_576, 5572],
  ] as const;
  const batches = [
    [4096, 4096, 5694],
    [256, 65_536, 469],
    [4096, 262_144, 22_803],
    [256, 1_048_576, 5139],
  ] as const;

  it('match single calls within 5 % on average', () => {
    expect(meanError(single.map(([rows, size, us]) => [timeUs(copyOf(rows, size)), us]))).toBeLessThan(0.05);
  });

  it('match loops of calls and batched calls within 10 % on average', () => {
    expect(meanError(loops.map(([rows, size, us]) => [timeUs(copyOf(rows, size)), us]))).toBeLessThan(0.1);
    const batched = batches.map(([rows, size, us]) => [timeUs(copyOf(rows, size, 'dma-batch')), us] as const);
    expect(meanError(batched)).toBeLessThan(0.12);
  });

  it('crawl at 0.1 GB/s for 256-byte rows, one call each', () => {
    const rate = (4096 * 256) / (timeUs(copyOf(4096, 256)) * 1000);
    expect(rate).toBeGreaterThan(0.08);
    expect(rate).toBeLessThan(0.13);
  });

  it('are slower from pageable memory', () => {
    expect(timeUs(copyOf(1, 268_435_456, 'pageable')) / 29_706).toBeCloseTo(1, 1);
  });
});

describe('kernel reads of host memory', () => {
  // [row bytes, region bytes, GB/s measured with 131,072 rows]
  const points = [
    [64, 0.25, 41.4],
    [128, 0.25, 49.7],
    [256, 0.5, 50.3],
    [512, 1, 50.3],
    [64, 1, 6.6],
    [128, 1, 13.4],
    [256, 1, 26.7],
    [64, 4, 2.95],
    [128, 4, 5.9],
    [256, 4, 10.8],
    [512, 4, 19.3],
    [1024, 4, 35.2],
    [4096, 16, 50.6],
  ] as const;
  const rate = (rowBytes: number, regionGiB?: number): number => {
    const region = regionGiB === undefined ? {} : { regionBytes: regionGiB * 2 ** 30 };
    const operation = gatherOf({ tier: 'dram', mode: 'uva', rows: 131_072, rowBytes, ...region });
    return (131_072 * rowBytes) / soloNs(costOf(operation, h100));
  };

  it('follow Little, the link and the reach of the translation within 12 % on average', () => {
    expect(meanError(points.map(([row, region, gbs]) => [rate(row, region), gbs]))).toBeLessThan(0.12);
  });

  it('miss a translation a piece where rows come in ascending order, layer after layer of 0.5 GB', () => {
    // [rows of 256 bytes, pieces of 64 KiB that they lie in, µs]: chosen by policies, one of 32 layers of a step
    const chosen = [
      [1600, 656, 22.8],
      [1600, 512, 17.7],
      [6400, 2624, 71],
      [48_032, 5056, 262],
      [101_760, 1664, 518],
    ] as const;
    const us = (rows: number, pieces: number): number => {
      const gather = gatherOf({ tier: 'dram', mode: 'uva', rows, rowBytes: 256, regionBytes: 2 ** 29 });
      return timeUs({ ...gather, pieces, visitedBytes: 32 * pieces * PIECE_BYTES });
    };
    expect(meanError(chosen.map(([rows, pieces, truth]) => [us(rows, pieces), truth]))).toBeLessThan(0.25);
    const atRandom = gatherOf({
      tier: 'dram',
      mode: 'uva',
      rows: 101_760,
      rowBytes: 256,
      regionBytes: 2 ** 32,
    });
    expect(timeUs(atRandom)).toBeGreaterThan(4 * us(101_760, 1664));
  });

  it('give 7 to 45 GB/s for rows of 64 to 256 bytes and 50 from 512 on when the region is not known', () => {
    expect(rate(64)).toBeGreaterThan(5);
    expect(rate(256)).toBeLessThan(45);
    expect(rate(512)).toBeGreaterThan(48);
    const known = gatherOf({ tier: 'dram', mode: 'uva', rows: 1000, rowBytes: 128, regionBytes: 2 ** 30 });
    const unknown = gatherOf({ tier: 'dram', mode: 'uva', rows: 1000, rowBytes: 128 });
    const width = ([lo, hi]: readonly [number, number]): number => hi / lo;
    expect(width(costOf(unknown, h100).intervalRatio)).toBeGreaterThan(
      2 * width(costOf(known, h100).intervalRatio),
    );
  });
});

describe('kernels on an H100', () => {
  it('gather rows within HBM at 0.93 of the copy rate', () => {
    // [row bytes, µs for 131,072 rows less the 6.2 µs of a tiny gather]
    const points = [
      [64, 7.0],
      [256, 25.4],
      [512, 49.3],
      [1024, 96],
      [4096, 382],
    ] as const;
    const gather = (rowBytes: number): Operation =>
      gatherOf({ tier: 'hbm', mode: 'uva', rows: 131_072, rowBytes });
    expect(meanError(points.map(([row, us]) => [timeUs(gather(row)), us]))).toBeLessThan(0.1);
  });

  it('multiply matrices within the error of the law', () => {
    const points = [
      [1, 4096, 4096, 16.1],
      [1, 28_672, 4096, 81.9],
      [64, 28_672, 4096, 87.9],
      [256, 28_672, 4096, 102.3],
      [512, 28_672, 4096, 156.9],
      [1024, 28_672, 4096, 306.8],
      [4096, 28_672, 4096, 1405],
      [16, 4096, 14_336, 45.8],
      [1, 128_256, 4096, 372],
      [8192, 8192, 8192, 1516],
      [96, 4096, 14_336, 49.0],
      [384, 6144, 4096, 28.7],
      [1536, 4096, 14_336, 230.7],
    ] as const;
    const us = (m: number, n: number, k: number): number =>
      soloNs(gemmCost(h100, gemmOf(m, n, k, 2), 2, 'bf16')) / 1000;
    expect(meanError(points.map(([m, n, k, truth]) => [us(m, n, k), truth]))).toBeLessThan(0.088);
    const fp8 = soloNs(gemmCost(h100, gemmOf(8192, 8192, 8192, 1), 1, 'fp8')) / 1000;
    expect(fp8 / 776.5).toBeCloseTo(1, 1);
  });

  it('take no less time to attend to a longer prompt', () => {
    const usOf = (heads: number, kvHeads: number, s: number): number =>
      timeUs(attendOf({ batch: 1, queries: s, context: s, heads, kvHeads, headDim: 128, elementBytes: 2 }));
    const shape = fc.record({
      kvHeads: fc.integer({ min: 1, max: 16 }),
      group: fc.integer({ min: 1, max: 16 }),
      tokens: fc.integer({ min: 2, max: 40_000 }),
      more: fc.integer({ min: 1, max: 4000 }),
    });
    fc.assert(
      fc.property(shape, ({ kvHeads, group, tokens, more }) => {
        const [shorter, longer] = [tokens, tokens + more].map((s) => usOf(kvHeads * group, kvHeads, s));
        expect(longer).toBeGreaterThanOrEqual(shorter * (1 - 1e-9));
      }),
      { seed: 42, numRuns: 500 },
    );
  });

  it('run prefill attention at the published rates', () => {
    // [tokens, TFLOP/s]: FlashAttention-3 at batch 1, 32 heads of 128
    const points = [
      [1024, 242],
      [2048, 386],
      [4096, 520],
      [8192, 603],
      [16_384, 664],
    ] as const;
    const tflops = (s: number): number =>
      (2 * 32 * 128 * s * s) /
      (timeUs(
        attendOf({ batch: 1, queries: s, context: s, heads: 32, kvHeads: 8, headDim: 128, elementBytes: 2 }),
      ) *
        1e6);
    expect(meanError(points.map(([s, rate]) => [tflops(s), rate]))).toBeLessThan(0.064);
  });

  const decode = (batch: number, context: number, stack?: string, name = 'h100-sxm'): number =>
    timeUs(
      attendOf({ batch, context, heads: 32, kvHeads: 8, headDim: 128, elementBytes: 2 }),
      machineOf(name, stack),
    );

  it('attend to 128K tokens in 5.6 to 7.5 ms over 32 layers', () => {
    const ms = (32 * decode(1, 131_072)) / 1000;
    expect(ms).toBeGreaterThan(5.6);
    expect(ms).toBeLessThan(7.5);
  });

  it('decode within the hold-out error of flash SDPA, which is no faster', () => {
    const points = [
      [1, 16_384, 37.6],
      [1, 131_072, 193],
      [1, 524_288, 715],
      [8, 65_536, 700],
      [32, 4096, 222],
      [16, 8192, 183],
    ] as const;
    expect(meanError(points.map(([b, s, us]) => [decode(b, s), us]))).toBeLessThan(0.12);
  });

  it('reach half of peak at small KV and nine tenths at large', () => {
    const share = (batch: number, context: number): number =>
      (batch * context * 4096) / (decode(batch, context) * 1000) / 3350;
    expect(share(64, 512)).toBeGreaterThan(0.35);
    expect(share(64, 512)).toBeLessThan(0.7);
    expect(share(1, 1_048_576)).toBeGreaterThan(0.88);
  });

  it('expand KV heads where the stack does: the published slope of Transformers on an H200', () => {
    // WG-KV figures, Llama-3.1-8B: 30.7 ms at 100K and 114.9 ms at 400K tokens.
    const slope =
      (32 *
        (decode(1, 400_000, 'transformers-eager', 'h200-sxm') -
          decode(1, 100_000, 'transformers-eager', 'h200-sxm'))) /
      1000;
    expect(slope / (114.9 - 30.7)).toBeGreaterThan(0.9);
    expect(slope / (114.9 - 30.7)).toBeLessThan(1.1);
  });

  it('choose row by row where a stack names such a kernel: a block a row, whatever the other rows do', () => {
    const stack = loadStack('pytorch-graphs');
    const one = { value: 1, status: 'assumed', source: 'kvtier derivation', date: '2026-11' } as const;
    const law = { startNs: { ...one, value: 10_000 }, rateRatio: one, flopsRatio: one, errorRatio: one };
    const kernels = { 'select.counts': { ...law, rateRatio: { ...one, value: 0.1 } } };
    const machine = resolveMachine(loadProfile('h100-sxm'), { ...stack, kernels });
    const us = (rows: number, of: number, keys: object): number => {
      const place = { layer: 0, stream: 'compute', after: [] } as const;
      return timeUs({ kind: 'select', ...keys, rows, of, k: 64, ...place }, machine);
    };
    const own = (rows: number, of: number): number => us(rows, of, { keys: 'counts' });
    expect(own(8, 131_072)).toBeCloseTo(10 + 524.288 / (0.1 * machine.select.smBytesPerNs), 6);
    expect(own(machine.sms, 131_072)).toBe(own(8, 131_072));
    expect(own(3 * machine.sms, 131_072) - 10).toBeCloseTo(3 * (own(8, 131_072) - 10), 6);
    // The stack's own top-k shares a row among SMs.
    expect(us(8, 131_072, {})).toBeLessThan(own(8, 131_072));
  });

  it('copy a cache that grows by concatenation before a step attends to it, but not a prompt', () => {
    const stack = loadStack('pytorch-graphs');
    const copies = { value: 1, status: 'assumed', source: 'kvtier derivation', date: '2026-11' } as const;
    const concatenating = resolveMachine(loadProfile('h100-sxm'), {
      ...stack,
      decodeAttention: { ...stack.decodeAttention, copies },
    });
    const plain = machineOf('h100-sxm', 'pytorch-graphs');
    const of = (queries: number, context: number): Operation =>
      attendOf({ batch: 4, queries, context, heads: 32, kvHeads: 32, headDim: 128, elementBytes: 2 });
    const slope = (machine: typeof plain): number =>
      timeUs(of(1, 262_144), machine) - timeUs(of(1, 131_072), machine);
    // Read and written once, then read by the attention.
    expect(slope(concatenating) / slope(plain)).toBeCloseTo(3, 2);
    expect(timeUs(of(4096, 4096), concatenating)).toBe(timeUs(of(4096, 4096), plain));
  });
});

describe('tiers without a link', () => {
  it('are refused, remote and GDS from host memory', () => {
    const base = { rows: 1, rowBytes: 4096, layer: 0, stream: 'h2d', after: [] } as const;
    expect(() => costOf({ ...base, kind: 'fetch', from: 'remote', to: 'hbm', mode: 'dma' }, h100)).toThrow(
      /remote -> hbm/,
    );
    expect(() => costOf({ ...base, kind: 'fetch', from: 'dram', to: 'hbm', mode: 'gds' }, h100)).toThrow(
      /by gds/,
    );
  });

  it('let NVMe go direct with GDS and bounce through DRAM without', () => {
    const read = (mode: 'gds' | 'dma'): Operation => ({
      kind: 'fetch',
      from: 'nvme',
      to: 'hbm',
      rows: 64,
      rowBytes: 1 << 20,
      mode,
      layer: 0,
      stream: 'nvme',
      after: [],
    });
    const dram = (mode: 'gds' | 'dma') =>
      costOf(read(mode), h100).demands.some(({ resource }) => resource === 'dram');
    expect([dram('gds'), dram('dma')]).toEqual([false, true]);
    expect(costOf(read('gds'), h100).boundBy).toBe('nvme');
  });
});
