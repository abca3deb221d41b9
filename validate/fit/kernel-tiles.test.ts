/** What the fit and the cost model state of blocks and tiles is what the CUDA sources say. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { NUQ_PAGE_TOKENS } from '../../kernels/nuq.ts';
import { JOINED_GROUPS, JOINED_TURNS, POOLED_ROUNDS, WHOLE_ROWS } from '../../sim/timing/attend-split.ts';
import { NUQ_BLOCKS, UNIFORM_PAGE } from '../../sim/timing/cost-attend.ts';
import { HASHED_AT_ONCE, TILED_HEADS } from '../../sim/timing/sizes.ts';
import { ATTEND_MERGE, PRODUCT_BLOCKS, REBUILD_TILE } from './kernel-tiles.ts';

const source = (name: string): string =>
  readFileSync(join(import.meta.dirname, '../../kernels/cuda', name), 'utf8');

const HEADS_OF_TILE = 8;
const THREADS_OF_WARP = 32;

const numbersOf = (name: string, pattern: RegExp): readonly (readonly number[])[] =>
  [...source(name).matchAll(pattern)].map((found) => found.slice(1).map(Number));

test('blocks that attend to raw KV', () => {
  const launches = source('attend.cu').matchAll(/launch_attend<RawStore<Number, (\d+), \w+>, (\d+), (\d+)/g);
  const blocks = [...launches].map(([, dim, tiles, warps]) => ({
    headDim: Number(dim),
    queryRows: HEADS_OF_TILE * Number(tiles),
    threads: THREADS_OF_WARP * Number(warps),
  }));
  const stated = new Set(
    ATTEND_MERGE.blocks.map(({ headDim, queryRows, threads }) =>
      JSON.stringify({ headDim, queryRows, threads }),
    ),
  );
  expect(new Set(blocks.map((block) => JSON.stringify(block)))).toEqual(stated);
});

test('blocks that list the parts of rows', () => {
  const [[pool]] = numbersOf('attend-split.cuh', /kBlocksOfPool = (\d+);/g);
  const listing = (isFew: boolean) =>
    ATTEND_MERGE.blocks.flatMap(({ headDim, lists, listsFew = false }) =>
      lists === pool && listsFew === isFew ? [[headDim]] : [],
    );
  expect(numbersOf('attend.cu', /dim == (\d+) && pools\)/g)).toEqual(listing(false));
  expect(numbersOf('attend.cu', /dim == (\d+) && pools && !merges_in_groups/g)).toEqual(listing(true));
});

test('from how many rounds on blocks share the rest of long rows', () => {
  expect(numbersOf('attend-split.cuh', /kLeastRounds = (\d+);/g)).toEqual([[POOLED_ROUNDS]]);
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

test('pages whose tokens share their scales', () => {
  expect(numbersOf('attend-coded.cu', /page_tokens % (\d+) == 0/g)).toEqual([[UNIFORM_PAGE]]);
});

test('steps, rows and blocks of products', () => {
  const { depth, blocks } = PRODUCT_BLOCKS;
  expect(numbersOf('gemm.cu', /constexpr int kStep = (\d+);/g)).toEqual([[depth]]);
  const [[narrow, wide]] = numbersOf('gemm.cu', /kBlocks = RowTiles == 1 \? (\d+) : (\d+);/g);
  expect(new Set(blocks.map(({ rows, perUnit }) => `${rows} ${perUnit}`))).toEqual(
    new Set([`16 ${narrow}`, `32 ${wide}`]),
  );
});

test('tiles of products that rebuild tokens', () => {
  const stated = [[REBUILD_TILE.tokens, REBUILD_TILE.columns]];
  expect(numbersOf('delta-rebuild.cu', /kTokens = (\d+), kColumns = (\d+);/g)).toEqual(stated);
  expect(numbersOf('tile-product.h', /kTileM = (\d+);\s*constexpr int kTileN = (\d+);/g)).toEqual(stated);
});

test('blocks that attend over non-uniform codes', () => {
  const { tokens, perUnit, perRow, heads } = NUQ_BLOCKS;
  expect(numbersOf('nuq-attend.cu', /constexpr int k(?:Blocks|MostSplits) = (\d+);/g)).toEqual([
    [perUnit],
    [perRow],
  ]);
  expect(numbersOf('nuq-attend.cu', /launch<kBits, (\d+)>/g).at(-1)).toEqual([heads]);
  expect(tokens).toBe(NUQ_PAGE_TOKENS);
});

test('query heads that are multiplied with keys at once', () => {
  const most = numbersOf('row-products.h', /p\.group <= (\d+)\)/g).flat();
  const [[all]] = numbersOf('row-products.h', /p\.group > (\d+) \|\|/g);
  expect([...most, all]).toEqual(TILED_HEADS);
});

test('vectors that are hashed at a time', () => {
  expect(numbersOf('lsh-hash.cu', /kVectors = (\d+);/g)).toEqual([[HASHED_AT_ONCE]]);
});
