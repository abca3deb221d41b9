/** Rows of any lengths are cut as blocks cut them: token by token, each block's rows and each row's blocks counted. */
import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { headTiles, joiningOf, splitOf } from './attend-split.ts';
import { attendOf } from './cost-cases.ts';
import type { Tiling } from './tiling.ts';

const TILE = 32;
const RAW = { isCoded: false };
const tilingOf = (sms: number): Tiling => ({
  sms,
  tokenTiles: [],
  attendTiles: { raw: TILE, coded: TILE },
  attendRows: { value: 16, alone: false },
  selectClusters: null,
  attendMerge: null,
  productBlocks: null,
  workBlocks: null,
  longCoded: [],
  rebuildTile: null,
});

/** What every block reads, by its tokens one by one. */
const countedSplit = (lengths: readonly number[], pageTokens: number, stretch: number) => {
  const rowsOf = new Map<number, Set<number>>();
  const blocksOf = new Map<number, Set<number>>();
  const tokensOf = new Map<number, number>();
  const firstOf = new Map<number, number>();
  let start = 0;
  lengths.forEach((tokens, row) => {
    for (let token = start; token < start + tokens; token++) {
      const block = Math.floor(token / stretch);
      rowsOf.set(block, (rowsOf.get(block) ?? new Set()).add(row));
      tokensOf.set(block, (tokensOf.get(block) ?? 0) + 1);
      if (rowsOf.get(block)?.size === 1) firstOf.set(block, tokensOf.get(block) ?? 0);
      blocksOf.set(row, (blocksOf.get(row) ?? new Set()).add(block));
    }
    start += Math.ceil(tokens / pageTokens) * pageTokens;
  });
  const largest = (sets: Map<number, Set<number>>): number =>
    Math.max(...[...sets.values()].map((s) => s.size));
  const longest = Math.max(...tokensOf.values());
  const most = (counts: Map<number, number>): number[] => {
    const shares: number[] = [];
    for (const [block, { size }] of rowsOf)
      shares[size] = Math.max(shares[size] ?? 0, (counts.get(block) ?? 0) / longest);
    return shares;
  };
  const firsts = most(firstOf);
  const loads = most(tokensOf).flatMap((share, rows) => ({ rows, share, firstShare: firsts[rows] }));
  return { turns: largest(rowsOf), parts: largest(blocksOf), loads };
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
      fc.integer({ min: 1, max: 50 }),
      fc.constantFrom(1, 8, 16, 64),
      fc.integer({ min: 1, max: 40 }),
      (rowTokens, sequences, pageTokens, sms) => {
        const lengths = Array.from({ length: sequences }, () => rowTokens).flat();
        const total = lengths.reduce((sum, one) => sum + Math.ceil(one / pageTokens) * pageTokens, 0);
        const tiles = Math.ceil(total / sms / TILE);
        const whole = (Math.ceil(lengths.length / sms) * Math.floor(total / lengths.length)) / TILE;
        const even = whole % 1 === 0 && whole - tiles <= Math.floor(tiles / 16) ? whole : tiles;
        const counted = countedSplit(lengths, pageTokens, even * TILE);
        const { loads, blocks, ...most } = split(rowTokens, sequences, pageTokens, sms);
        expect(most).toEqual({ turns: counted.turns, parts: counted.parts });
        expect(blocks).toBe(Math.min(sms, Math.ceil(total / (even * TILE))));
        // Of the last block's, which others outdo, need nothing be said.
        expect(counted.loads).toEqual(expect.arrayContaining([...loads]));
        for (const { rows, share } of counted.loads)
          expect(loads.some((load) => load.rows >= rows && load.share >= share)).toBe(true);
      },
    ),
    { seed: 42 },
  );
});

it('counts a short row between long ones', () => {
  // 8 rows of 2048 tokens over 128 multiprocessors: 16 blocks a row.
  expect(split(new Array(8).fill(2048), 1, 64, 128)).toEqual({
    turns: 1,
    parts: 16,
    blocks: 128,
    loads: [{ rows: 1, share: 1, firstShare: 1 }],
  });
  // 256 tokens a block, the eighth of which has the end of a row, a short one and the begin of the next.
  expect(split([1900, 60, 2000], 1, 1, 16).turns).toBe(3);
});

it('has one turn where there is one row, and joins many parts in two levels', () => {
  const attendMerge = { parts: 12, blocks: [{ headDim: 128, queryRows: 8, threads: 384 }] };
  const tiling = { ...tilingOf(132), attendMerge };
  const one = attendOf({ batch: 1, context: 4160, heads: 8, kvHeads: 1, headDim: 128, elementBytes: 2 });
  const { turns, parts } = splitOf(one, { bytes: 0, tokens: 4160, isCoded: false }, tiling);
  expect(turns).toBe(1);
  expect(joiningOf(one, RAW, parts, tiling)).toEqual({ levels: 2, rounds: 3, isListed: false });
  expect(joiningOf(one, RAW, 90, tiling)).toEqual({ levels: 1, rounds: 8, isListed: false });
});

it('joins listed parts of raw rows in one level where enough blocks share a row', () => {
  const attendMerge = { parts: 12, blocks: [{ headDim: 128, queryRows: 8, threads: 384, lists: 16 }] };
  const tiling = { ...tilingOf(132), attendMerge };
  const rows = (kvHeads: number) =>
    attendOf({ batch: 1, context: 4160, heads: 8 * kvHeads, kvHeads, headDim: 128, elementBytes: 2 });
  expect(joiningOf(rows(1), RAW, 130, tiling)).toEqual({ levels: 1, rounds: 11, isListed: true });
  expect(joiningOf(rows(1), { isCoded: true }, 130, tiling).levels).toBe(2);
  expect(joiningOf(rows(9), RAW, 130, tiling).levels).toBe(2);
  // Heads that fill no block have no lists.
  expect(joiningOf({ ...rows(1), headDim: 96 }, RAW, 130, tiling).levels).toBe(2);
});

it('shares long rows out as they come where parts are listed, so that nobody is behind', () => {
  const attendMerge = { parts: 12, blocks: [{ headDim: 128, queryRows: 8, threads: 384, lists: 16 }] };
  const tiling = { ...tilingOf(132), attendMerge };
  const turns = (context: number, isCoded = false) => {
    const one = attendOf({ batch: 1, context, heads: 28, kvHeads: 4, headDim: 128, elementBytes: 2 });
    return splitOf(one, { bytes: 0, tokens: context, isCoded }, tiling).turns;
  };
  expect(turns(32_832)).toBe(2);
  // 4 rounds of 12 warps with a tile each, on 132 blocks of 4 rows.
  expect(turns(65_600)).toBe(1);
  expect(turns(65_600, true)).toBe(2);
});

it('has as many blocks behind each other as hold the query heads of a row', () => {
  const blocks = [8, 16].map((queryRows) => ({ headDim: 128, queryRows, threads: 256 }));
  const tiling = { ...tilingOf(132), attendMerge: { parts: 12, blocks } };
  const tiles = (heads: number) =>
    headTiles(attendOf({ batch: 1, context: 64, heads, kvHeads: 1, headDim: 128, elementBytes: 2 }), tiling);
  expect([1, 16, 17, 48].map(tiles)).toEqual([1, 1, 2, 3]);
  expect(
    headTiles(
      attendOf({ batch: 1, context: 64, heads: 64, kvHeads: 1, headDim: 128, elementBytes: 2 }),
      tilingOf(132),
    ),
  ).toBe(1);
});
