/** Products take whole rounds of tiles, and turns where a block's stretch ends within one; rows gathered stay in the cache. */
import { describe, expect, it } from 'vitest';
import { loadProfile, loadStack } from '../hardware/load.ts';
import type { ScoreOperation } from '../program/operation.ts';
import { costOf, resolveMachine } from './cost.ts';
import { gatherOf, gemmOf } from './cost-cases.ts';
import { gemmCost } from './cost-products.ts';
import { soloNs } from './operation-cost.ts';
import { rebuildTurns } from './product-tiles.ts';
import { productTurns } from './tiling.ts';

const stated = { status: 'measured', source: 'a test', date: '2026-11' } as const;
const stack = loadStack('kvtier-kernels');
const profile = structuredClone(loadProfile('h100-sxm'));
const quantity = (value: number) => ({ value, ...stated });
Object.assign(profile.accelerator.gemm, { tokenNs: quantity(90) });
Object.assign(profile.accelerator.gather, { cachedBytesPerNs: quantity(2000), startNs: quantity(1600) });
const machine = resolveMachine(profile, {
  ...stack,
  gemm: {
    ...stack.gemm,
    tokenTiles: {
      sizes: [8, 64],
      depth: 128,
      blocks: [
        { rows: 16, perUnit: 2 },
        { rows: 32, perUnit: 1 },
      ],
      ...stated,
    },
  },
  rebuild: { tokens: 128, columns: 128, ...stated },
});
const { tiling, sms } = machine;

describe('turns of a product', () => {
  it('are the tiles that a block’s stretch touches, counted block by block', () => {
    const counted = (n: number, k: number, rows: number, blocks: number): number => {
      const steps = Math.ceil(k / 128);
      const total = Math.ceil(n / rows) * steps;
      const each = Math.ceil(total / blocks);
      let most = 0;
      for (let from = 0; from < total; from += each) {
        const last = Math.min(total, from + each) - 1;
        most = Math.max(most, Math.floor(last / steps) - Math.floor(from / steps) + 1);
      }
      return most;
    };
    for (const [n, k] of [
      [4096, 4096],
      [6144, 4096],
      [9728, 896],
      [896, 4864],
      [4096, 14_336],
      [28_672, 4096],
    ]) {
      expect(productTurns({ m: 8, n, k }, tiling)).toBe(counted(n, k, 16, 2 * sms));
      expect(productTurns({ m: 64, n, k }, tiling)).toBe(counted(n, k, 32, sms));
    }
  });

  it('cost their tokens each, and nothing where blocks are not known', () => {
    const ns = (m: number, n: number, k: number) => soloNs(gemmCost(machine, gemmOf(m, n, k, 2), 2, 'bf16'));
    // 8.4 MB of weights in one turn a block, 8.7 MB in two.
    expect(ns(64, 896, 4864) - ns(64, 1024, 4096)).toBeGreaterThan(0.9 * 64 * 90);
    expect(productTurns({ m: 8, n: 896, k: 4864 }, { ...tiling, productBlocks: null })).toBe(1);
  });
});

describe('rebuilding', () => {
  const work = (rows: number, tokens: number): ScoreOperation => ({
    kind: 'score',
    index: 'rebuild-keys',
    readBytes: { hbm: rows * tokens * 320 },
    writeBytes: { hbm: rows * tokens * 256 },
    flops: 0,
    matrixFlops: 2 * 160 * 128 * tokens * rows,
    kernels: 1,
    rows,
    where: 'gpu',
    call: { kernel: 'low-rank-rebuild', counts: { tokens }, shape: { rank: 160 } },
    layer: 0,
    stream: 'compute',
    after: [],
  });

  it('takes whole tiles in turns of all multiprocessors', () => {
    expect(rebuildTurns(work(8, 128), tiling)).toEqual({ turns: 1, padding: sms / 8 });
    expect(rebuildTurns(work(sms, 129), tiling)?.turns).toBe(2);
    // Half of a tile's columns, in the time of all.
    const narrow = { ...work(8, 128), matrixFlops: (work(8, 128).matrixFlops ?? 0) / 2 };
    expect(rebuildTurns(narrow, tiling)).toEqual({ turns: 1, padding: sms / 4 });
    expect(rebuildTurns({ ...work(8, 128), call: { kernel: 'gate', counts: {} } }, tiling)).toBeUndefined();
    expect(rebuildTurns(work(8, 128), { ...tiling, rebuildTile: null })).toBeUndefined();
  });

  it('of DeltaKV has tiles of tokens and of all heads’ columns', () => {
    const operation: ScoreOperation = {
      ...work(8, 1088),
      matrixFlops: 2 * 1088 * 512 * 2048,
      call: { kernel: 'delta-rebuild', counts: { tokens: 1088 }, shape: { latentDim: 512 } },
    };
    // 8.5 tiles of tokens by 16 of columns.
    expect(rebuildTurns(operation, tiling)).toEqual({ turns: 2, padding: (2 * sms) / 136 });
  });
});

describe('tiles of a rebuilding product', () => {
  it('hide each other’s loads in pairs; the last of an odd number waits for its own', () => {
    const law = { startNs: 3000, rowNs: 0, headNs: 0, rampNs: 0, rampBytes: 1, rateRatio: 1, flopsRatio: 1 };
    const trust = { errorRatio: 0.1, anchored: true, inPasses: false };
    const kernels = { 'delta-rebuild': { ...law, ...trust, matrixRatio: 0.3, aloneRatio: 1.3 } };
    const bare = { ...machine, kernels, utilisation: {} };
    const turnsNs = (turns: number): number => {
      const matrixFlops = 2 * 128 * 128 * 2048 * sms * turns;
      const operation: ScoreOperation = {
        kind: 'score',
        index: 'rebuild',
        readBytes: { hbm: 1 },
        writeBytes: {},
        flops: 0,
        matrixFlops,
        kernels: 1,
        rows: 1,
        where: 'gpu',
        call: { kernel: 'delta-rebuild', counts: { tokens: 1 }, shape: { latentDim: 2048 } },
        layer: 0,
        stream: 'compute',
        after: [],
      };
      return soloNs(costOf(operation, bare));
    };
    const [one, two, three, four] = [1, 2, 3, 4].map(turnsNs);
    const eachNs = (four - two) / 2;
    expect(three - two).toBeCloseTo(1.3 * eachNs, 3);
    expect(four - three).toBeCloseTo(0.7 * eachNs, 3);
    expect(two - one).toBeCloseTo(0.7 * eachNs, 3);
  });
});

describe('rows gathered in device memory', () => {
  const ns = (megabytes: number) =>
    soloNs(
      costOf(
        gatherOf({ tier: 'hbm', mode: 'uva', rows: megabytes * 1024, rowBytes: 1024, regionBytes: 2 ** 31 }),
        machine,
      ),
    );

  it('come at the cache’s rate while it keeps what is written, at the copy rate beyond', () => {
    const { copyBytesPerNs } = machine.hbm;
    const rate = (from: number, to: number) => ((to - from) * 2 ** 20) / (ns(to) - ns(from));
    expect(rate(4, 16)).toBeCloseTo(2000, 0);
    // Read and written.
    expect(2 * rate(64, 256)).toBeLessThan(copyBytesPerNs);
    expect(2 * rate(64, 256)).toBeGreaterThan(0.8 * copyBytesPerNs);
    expect(ns(32) / ns(16)).toBeGreaterThan(2.2);
  });
});
