/** Tables are filled once a row; look-ups grow with heads and keys, and joining heads counts as one more. */
import { expect, it } from 'vitest';
import type { ScoreOperation } from '../program/operation.ts';
import { lookUpsOf } from './look-ups.ts';
import { rowSizes } from './sizes.ts';

const scored = (kernel: string): ScoreOperation => ({
  kind: 'score',
  index: 'code-products',
  readBytes: { hbm: 1 },
  writeBytes: {},
  flops: 3 * 12 * (2 * 64 * 128 + 2 * 1000),
  kernels: 4,
  rows: 3,
  heads: 12,
  where: 'gpu',
  call: { kernel, counts: { tokens: 1000 }, shape: { subspaces: 2, centroids: 64 } },
  layer: 0,
  stream: 'compute',
  after: [],
});

it('tells what fills tables from what looks up, and counts heads as they are', () => {
  expect(lookUpsOf(scored('pq-shares'))).toEqual({
    tableFlops: 3 * 12 * 2 * 64 * 128,
    lookUpFlops: 3 * 13 * 2 * 1000,
  });
  expect(rowSizes(scored('pq-shares')).queryRows).toBe(12);
});

it('leaves other scores alone, whose heads come in tiles', () => {
  expect(lookUpsOf(scored('dot-shares'))).toBeNull();
  expect(rowSizes(scored('dot-shares')).queryRows).toBe(16);
});
