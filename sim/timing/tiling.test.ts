/** Rows of any lengths are cut as blocks cut them: token by token, each block's rows and each row's blocks counted. */
import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { attendOf } from './cost-cases.ts';
import { joiningOf, splitOf, type Tiling } from './tiling.ts';

const TILE = 32;
const tilingOf = (sms: number): Tiling => ({
  sms,
  tokenTiles: [],
  attendTiles: { raw: TILE, coded: TILE },
  attendRows: { value: 16, alone: false },
  selectClusters: null,
  attendMerge: null,
  productBlocks: null,
  rebuildTile: null,
});

/** What every block reads, by its tokens one by one. */
const countedSplit = (lengths: readonly number[], pageTokens: number, stretch: number) => {
  const rowsOf = new Map<number, Set<number>>();
  const blocksOf = new Map<number, Set<number>>();
  let start = 0;
  lengths.forEach((tokens, row) => {
    for (let token = start; token < start + tokens; token++) {
      const block = Math.floor(token / stretch);
      rowsOf.set(block, (rowsOf.get(block) ?? new Set()).add(row));
      blocksOf.set(row, (blocksOf.get(row) ?? new Set()).add(block));
    }
    start += Math.ceil(tokens / pageTokens) * pageTokens;
  });
  const most = (sets: Map<number, Set<number>>): number => Math.max(...[...sets.values()].map((s) => s.size));
  return { turns: most(rowsOf), parts: most(blocksOf) };
};

const split = (rowTokens: readonly number[], sequences: number, pageTokens: number, sms: number) => {
  const shape = { heads: 2 * rowTokens.length, kvHeads: rowTokens.length, headDim: 128, elementBytes: 2 };
  const one = { ...attendOf({ batch: sequences, context: 1, ...shape }), pageTokens, rowTokens };
  return splitOf(one, { bytes: 0, tokens: 1, isCoded: false }, tilingOf(sms));
};

it('counts the turns of blocks and the parts of rows that are not alike', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 600 }), { minLength: 1, maxLength: 6 }),
      fc.integer({ min: 1, max: 5 }),
      fc.constantFrom(1, 8, 16, 64),
      fc.integer({ min: 1, max: 40 }),
      (rowTokens, sequences, pageTokens, sms) => {
        const lengths = Array.from({ length: sequences }, () => rowTokens).flat();
        const total = lengths.reduce((sum, one) => sum + Math.ceil(one / pageTokens) * pageTokens, 0);
        const tiles = Math.ceil(total / sms / TILE);
        const whole = (Math.ceil(lengths.length / sms) * Math.floor(total / lengths.length)) / TILE;
        const even = whole % 1 === 0 && whole - tiles <= Math.floor(tiles / 16) ? whole : tiles;
        const counted = countedSplit(lengths, pageTokens, even * TILE);
        expect(split(rowTokens, sequences, pageTokens, sms)).toEqual(counted);
      },
    ),
    { seed: 42 },
  );
});

it('counts a short row between long ones', () => {
  // 8 rows of 2048 tokens over 128 multiprocessors: 16 blocks a row.
  expect(split(new Array(8).fill(2048), 1, 64, 128)).toEqual({ turns: 1, parts: 16 });
  // 256 tokens a block, the eighth of which has the end of a row, a short one and the begin of the next.
  expect(split([1900, 60, 2000], 1, 1, 16).turns).toBe(3);
});

it('has one turn where there is one row, and joins many parts in two levels', () => {
  const attendMerge = { parts: 12, blocks: [{ headDim: 128, queryRows: 8, threads: 384 }] };
  const tiling = { ...tilingOf(132), attendMerge };
  const one = attendOf({ batch: 1, context: 4160, heads: 8, kvHeads: 1, headDim: 128, elementBytes: 2 });
  const { turns, parts } = splitOf(one, { bytes: 0, tokens: 4160, isCoded: false }, tiling);
  expect(turns).toBe(1);
  expect(joiningOf(one, parts, tiling)).toEqual({ levels: 2, rounds: 3 });
  expect(joiningOf(one, 90, tiling)).toEqual({ levels: 1, rounds: 8 });
});
