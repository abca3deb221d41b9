/** TTKV's choice of blocks against brute force, and its bytes wherever the scales lie. */
import { expect, test } from 'vitest';
import { worldOf } from '../../../test/policy-cases.ts';
import { probe } from '../../../test/policy-probe.ts';
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

/** Score of a block: its largest bound (or product with its mean key) by any query of the layer. */
const scoreOf = (block: number, step: number, summary: 'mean' | 'min-max'): number => {
  let best = -Infinity;
  for (const kvHead of [0, 1]) {
    const keys = trace.keys(2, kvHead);
    const q = trace.queries(2, step, kvHead);
    for (let g = 0; g < 4; g++) {
      let sum = 0;
      for (let c = 0; c < 32; c++) {
        const products = Array.from(
          { length: BLOCK },
          (_, t) => q[g * 32 + c] * keys[(block * BLOCK + t) * 32 + c],
        );
        sum += summary === 'min-max' ? Math.max(...products) : products.reduce((a, b) => a + b, 0) / BLOCK;
      }
      best = Math.max(best, sum);
    }
  }
  return best;
};

test.each(['min-max', 'mean'] as const)('streams the blocks of the highest score by %s', (summary) => {
  const config = { blockTokens: BLOCK, fastTokens: 100, slowBlocks: 5, summary };
  const policy = createPolicy(plugin, config, world);
  const choices = probe({ policy, world, trace, layer: 2, steps: 3, after: () => undefined });
  choices.forEach((heads, step) => {
    const slow = Math.floor((501 + step - 100) / BLOCK);
    const best = Array.from({ length: slow }, (_, block) => block)
      .sort((a, b) => scoreOf(b, step, summary) - scoreOf(a, step, summary))
      .slice(0, 5);
    for (const marks of heads) {
      marks.forEach((mark, token) => {
        const block = Math.floor(token / BLOCK);
        expect(mark !== 0).toBe(block >= slow || best.includes(block));
      });
    }
  });
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
