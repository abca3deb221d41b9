/** TTKV's choice of blocks against brute force, and its bytes wherever the scales lie. */
import { expect, test } from 'vitest';
import { worldOf } from '../../../test/policy-cases.ts';
import { probe } from '../../../test/policy-probe.ts';
import { exp } from '../../engine/math.ts';
import { createRandomTrace } from '../../trace/random-trace.ts';
import { createPolicy } from '../create-policy.ts';
import { policy as plugin } from './ttkv.ts';

const shape = {
  layers: 4,
  heads: 8,
  kvHeads: 2,
  headDim: 32,
  promptTokens: 500,
  steps: 3,
  recordedLayers: [2],
};
const world = worldOf(shape);
const trace = createRandomTrace({ shape, seed: 11 });
const BLOCK = 16;

/** Scores of `blocks` blocks behind the prefix by one query: largest bound, or product with the mean key. */
const scoresBy = (q: Float32Array, keys: Float32Array, blocks: number, prefix: number, summary: Summary) =>
  Array.from({ length: blocks }, (_, block) => {
    let sum = 0;
    for (let c = 0; c < 32; c++) {
      const products = Array.from(
        { length: BLOCK },
        (_, t) => q[c] * keys[(prefix + block * BLOCK + t) * 32 + c],
      );
      sum += summary === 'min-max' ? Math.max(...products) : products.reduce((a, b) => a + b, 0) / BLOCK;
    }
    return sum;
  });

const shares = (scores: readonly number[]): readonly number[] => {
  const weights = scores.map((score) => exp((score - Math.max(...scores)) / Math.sqrt(32)));
  return weights.map((weight) => weight / weights.reduce((a, b) => a + b, 0));
};

/** The blocks with the largest score or share by any query of the layer. */
const bestBlocks = (step: number, slow: number, prefix: number, { summary, compare }: Case) => {
  const rows = [0, 1].flatMap((kvHead) => {
    const q = trace.queries(2, step, kvHead);
    return [0, 1, 2, 3].map((g) => {
      const query = q.subarray(g * 32, (g + 1) * 32);
      const scores = scoresBy(query, trace.keys(2, kvHead), slow, prefix, summary);
      return compare === 'share' ? shares(scores) : scores;
    });
  });
  const best = (block: number): number => Math.max(...rows.map((row) => row[block]));
  return Array.from({ length: slow }, (_, block) => block)
    .sort((a, b) => best(b) - best(a))
    .slice(0, 5);
};

type Summary = 'min-max' | 'mean';
interface Case {
  readonly summary: Summary;
  readonly compare: 'share' | 'score';
  readonly prefixTokens: number;
}
const cases: readonly Case[] = [
  { summary: 'min-max', compare: 'share', prefixTokens: 0 },
  { summary: 'mean', compare: 'share', prefixTokens: 20 },
  { summary: 'min-max', compare: 'score', prefixTokens: 20 },
];

test.each(cases)('streams the best blocks: $summary, $compare, prefix $prefixTokens', (wanted) => {
  const config = { blockTokens: BLOCK, fastTokens: 100, slowBlocks: 5, ...wanted };
  const policy = createPolicy(plugin, config, world);
  const choices = probe({ policy, world, trace, layer: 2, steps: 3, after: () => undefined });
  const prefix = wanted.prefixTokens;
  choices.forEach((heads, step) => {
    const slow = Math.floor((501 + step - 100) / BLOCK);
    const best = bestBlocks(step, slow, prefix, wanted);
    for (const marks of heads) {
      marks.forEach((mark, token) => {
        const block = Math.floor((token - prefix) / BLOCK);
        expect(mark !== 0).toBe(token < prefix || block >= slow || best.includes(block));
      });
    }
  });
});

test('a prefix larger than the fast tier is refused by name', () => {
  expect(() => createPolicy(plugin, { fastTokens: 10, prefixTokens: 11 }, world)).toThrow(/prefixTokens/);
});

test('scales are counted once: beside the summaries in HBM, or with the blocks in DRAM', () => {
  const residency = (scales: 'hbm' | 'with-block') => {
    const policy = createPolicy(plugin, { blockTokens: BLOCK, fastTokens: 100, scales }, world);
    let bytes = { hbm: 0, dram: 0 };
    const after = ({
      heads,
    }: {
      heads: readonly { cache: { residentBytes(tier: 'hbm' | 'dram'): number } }[];
    }) => {
      bytes = { hbm: heads[0].cache.residentBytes('hbm'), dram: heads[0].cache.residentBytes('dram') };
    };
    probe({ policy, world, trace, layer: 2, steps: 1, after });
    return bytes;
  };
  const slow = Math.floor((501 - 100) / BLOCK);
  const scaleBytes = slow * (2 * 32 + 4 * BLOCK);
  const [beside, within] = [residency('hbm'), residency('with-block')];
  expect(beside.dram).toBe(slow * BLOCK * 1.5 * 32);
  expect(within.dram).toBe(beside.dram + scaleBytes);
  expect(within.hbm).toBe(beside.hbm - scaleBytes);
});
