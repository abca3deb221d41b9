/** Declared work has as many threads as its bytes or its arithmetic ask for, in each of its launches. */
import { expect, it } from 'vitest';
import type { ScoreOperation } from '../program/operation.ts';
import type { Tiling } from './tiling.ts';
import { workThreadBytes, workTurns } from './work-blocks.ts';

const tiling = {
  sms: 132,
  workBlocks: { bytes: 16, flops: 64, threads: 512, perUnit: 4 },
} as unknown as Tiling;

const work = (readBytes: number, flops: number, kernels = 1): ScoreOperation => ({
  kind: 'score',
  index: 'work',
  readBytes: { hbm: readBytes },
  writeBytes: {},
  flops,
  kernels,
  where: 'gpu',
  layer: 0,
  stream: 'compute',
  after: [],
});

it('counts blocks a multiprocessor, up to what it takes at once', () => {
  expect(workTurns(work(2 ** 16, 0), tiling)).toBe(1);
  expect(workTurns(work(2 ** 20, 2 ** 23), tiling)).toBe(2);
  expect(workTurns(work(2 ** 18, 2 ** 24), tiling)).toBe(4);
  expect(workTurns(work(2 ** 28, 0), tiling)).toBe(4);
  expect(workTurns(work(2 ** 20, 2 ** 23, 2), tiling)).toBe(1);
  expect(workTurns(work(2 ** 20, 0), { ...tiling, workBlocks: null })).toBeUndefined();
});

it('takes arithmetic for the bytes that as many threads would read', () => {
  expect(workThreadBytes(work(2 ** 18, 2 ** 24), tiling)).toBe(2 ** 22);
  expect(workThreadBytes(work(2 ** 18, 0), tiling)).toBe(2 ** 18);
  expect(workThreadBytes(work(2 ** 18, 0), { ...tiling, workBlocks: null })).toBe(0);
});
