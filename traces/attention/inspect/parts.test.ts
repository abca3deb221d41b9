/** The small measures by hand: sets, blocks, reuse, the sampling rule, the folding of records. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { blocksFor90, createBlockRow, fillBlocks, topTokenShares } from './blocks.ts';
import { meanRecord, quantileRecord, roundRecord } from './combine.ts';
import { commonPositions, headPairs, jaccard, massOverlap } from './overlap.ts';
import { addSelection, createReuse, reuseShares } from './reuse.ts';
import { chooseInspectSample, chooseSteps } from './sampling.ts';

describe('overlap', () => {
  it('counts common positions and their share of the union', () => {
    const a = Int32Array.of(1, 3, 5, 7, 99);
    const b = Int32Array.of(0, 3, 4, 7, 8, 9);
    expect(commonPositions(a, 4, b, 6)).toBe(2);
    expect(jaccard(a, 4, b, 6)).toBe(2 / 8);
    expect(jaccard(a, 4, a, 4)).toBe(1);
    expect(jaccard(a, 0, b, 0)).toBe(1);
  });

  it('is 1 for the same attention, 0 for attention elsewhere', () => {
    const rows = Float32Array.of(0.5, 0.5, 0, 0, /**/ 0, 0, 0.25, 0.75, /**/ 0.25, 0.25, 0.25, 0.25);
    expect(massOverlap(rows, 0, 0, 4)).toBe(1);
    expect(massOverlap(rows, 0, 4, 4)).toBe(0);
    expect(massOverlap(rows, 0, 8, 4)).toBe(0.5);
  });

  it('compares all pairs of a small group and a seeded sample of a large one', () => {
    expect(headPairs(1, 1)).toEqual([]);
    expect(headPairs(3, 1)).toEqual([
      [0, 1],
      [0, 2],
      [1, 2],
    ]);
    expect(headPairs(8, 1)).toHaveLength(28);
    const many = headPairs(71, 1);
    expect(new Set(many.map(String)).size).toBe(28);
    expect(headPairs(71, 1)).toEqual(many);
    expect(headPairs(71, 2)).not.toEqual(many);
  });
});

describe('blocks', () => {
  it('gives the best token of a block its share, at every block size', () => {
    // Two blocks of 128: 0.6 on one token; 0.4 even over 16 tokens of one 16-token block.
    const row = new Float32Array(256);
    row[5] = 0.6;
    row.fill(0.4 / 16, 160, 176);
    const blocks = createBlockRow(256);
    fillBlocks(row, 256, 0, blocks);
    expect(blocks.count).toBe(16);
    const shares = new Float64Array(3);
    topTokenShares(blocks, shares);
    for (const share of shares) expect(share).toBeCloseTo(0.6 + 0.4 / 16, 6);
    expect(blocksFor90(blocks, new Float32Array(2))).toBe(2);
  });

  it('of uniform attention: 1 token in each block, nine blocks of ten', () => {
    const n = 1280;
    const blocks = createBlockRow(n);
    fillBlocks(new Float32Array(n).fill(1 / n), n, 0, blocks);
    const shares = new Float64Array(3);
    topTokenShares(blocks, shares);
    expect([...shares].map((share) => Math.round(1 / share))).toEqual([16, 64, 128]);
    expect(blocksFor90(blocks, new Float32Array(10))).toBe(9);
  });

  it('stands at absolute positions when a window begins inside a block', () => {
    const blocks = createBlockRow(64);
    blocks.mass.fill(9);
    fillBlocks(Float32Array.of(0.25, 0.25, 0.5), 3, 30, blocks);
    expect([...blocks.mass.subarray(0, blocks.count)]).toEqual([0, 0.5, 0.5]);
    expect([...blocks.top.subarray(0, blocks.count)]).toEqual([0, 0.25, 0.5]);
  });
});

describe('reuse', () => {
  it('counts steps since the last selection inside a run', () => {
    const reuse = createReuse(8);
    const select = (step: number, ...blocks: number[]): void =>
      addSelection(reuse, step, Int32Array.from(blocks), blocks.length);
    select(0, 1, 2);
    expect(reuseShares(reuse)).toBeNull();
    select(1, 2, 3);
    select(2, 1, 2);
    select(3, 3);
    // 2 again at once, twice; 3 first; 1 after two steps; 3 after two.
    expect(reuseShares(reuse)).toEqual({
      '1': 2 / 5,
      '2': 2 / 5,
      '3-4': 0,
      '5-8': 0,
      '9-16': 0,
      '17+': 0,
      first: 1 / 5,
    });
    select(9, 1, 2, 3);
    expect(reuse.counts.reduce((a, b) => a + b)).toBe(5);
    select(10, 4);
    expect(reuse.counts.at(-1)).toBe(2);
  });
});

describe('the sample', () => {
  it('takes exactly the steps asked for, in runs, from step 0, the same for a seed', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 1, max: 300 }), (steps, count) => {
        const chosen = chooseSteps(steps, count, 3);
        expect(chosen).toHaveLength(Math.min(steps, count));
        expect(chosen[0]).toBe(0);
        expect(chosen.every((step, i) => step < steps && (i === 0 || step > chosen[i - 1]))).toBe(true);
        expect(chooseSteps(steps, count, 3)).toEqual(chosen);
        if (count > 1 && steps > 1) expect(chosen[1]).toBe(1);
      }),
      { seed: 42 },
    );
  });

  const shape = {
    layers: 24,
    heads: 14,
    kvHeads: 2,
    headDim: 64,
    promptTokens: 32000,
    steps: 64,
    recordedLayers: [],
  };
  const layers = Array.from({ length: 24 }, (_, layer) => layer);

  it('looks at every layer of 24 over 32K tokens, and at fewer of longer contexts', () => {
    const all = chooseInspectSample(shape, layers, { layers: 'auto', seed: 1 });
    expect([all.layers.length, all.steps.length]).toEqual([24, 16]);
    const long = chooseInspectSample({ ...shape, promptTokens: 1e6 }, layers, { layers: 'auto', seed: 1 });
    expect(long.layers.length).toBeLessThan(8);
    expect(long.layers.length).toBeGreaterThan(0);
    const whole = chooseInspectSample({ ...shape, promptTokens: 1e6 }, layers, { layers: 'all', seed: 1 });
    expect(whole.layers).toHaveLength(24);
  });

  it('refuses a layer that is not there', () => {
    const choose = () => chooseInspectSample(shape, [2, 5], { layers: [2, 7], seed: 1 });
    expect(choose).toThrow('--layers 7: the trace has keys and queries of layers 2, 5');
    expect(chooseInspectSample(shape, [2, 5], { layers: [5, 5], seed: 1 }).layers).toEqual([5]);
  });
});

describe('records', () => {
  const records = [
    { a: 1, list: [0, 4], deep: { b: null, c: null } },
    { a: 3, list: [2, 8], deep: { b: 5, c: null } },
  ];

  it('fold number by number, past nulls', () => {
    expect(meanRecord(records)).toEqual({ a: 2, list: [1, 6], deep: { b: 5, c: null } });
    expect(quantileRecord(records, 1)).toEqual({ a: 3, list: [2, 8], deep: { b: 5, c: null } });
  });

  it('round to six digits', () => {
    expect(roundRecord({ a: [1 / 3, null, 'x'], b: 123456789 })).toEqual({
      a: [0.333333, null, 'x'],
      b: 123457000,
    });
  });
});
