/** What the fit states of blocks that attend is what the CUDA kernel launches. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { JOINED_GROUPS, JOINED_TURNS, WHOLE_ROWS } from '../../sim/timing/tiling.ts';
import { ATTEND_MERGE } from './kernel-tiles.ts';

const source = (name: string): string =>
  readFileSync(join(import.meta.dirname, '../../kernels/cuda', name), 'utf8');

const HEADS_OF_TILE = 8;
const THREADS_OF_WARP = 32;

test('blocks that attend to raw KV', () => {
  const launches = source('attend.cu').matchAll(/launch_attend<RawStore<Number, (\d+), \w+>, (\d+), (\d+)/g);
  const blocks = [...launches].map(([, dim, tiles, warps]) => ({
    headDim: Number(dim),
    queryRows: HEADS_OF_TILE * Number(tiles),
    threads: THREADS_OF_WARP * Number(warps),
  }));
  const stated = new Set(ATTEND_MERGE.blocks.map((block) => JSON.stringify(block)));
  expect(new Set(blocks.map((block) => JSON.stringify(block)))).toEqual(stated);
});

test('how much longer whole rows may be', () => {
  const shares = [...source('attend-split.cuh').matchAll(/whole \/ tile - per <= per \/ (\d+)\)/g)];
  expect(shares.map(([, share]) => Number(share))).toEqual([WHOLE_ROWS]);
});

test('parts that a thread has in flight, and those that are joined in groups', () => {
  const stated = (name: string) =>
    [...source('attend-finish.cuh').matchAll(new RegExp(`${name} = (\\d+);`, 'g'))].map(([, count]) =>
      Number(count),
    );
  expect(stated('kPartsAhead')).toEqual([ATTEND_MERGE.parts]);
  expect(stated('kMostTurns')).toEqual([JOINED_TURNS]);
  expect(stated('kGroups')).toEqual([JOINED_GROUPS]);
});
