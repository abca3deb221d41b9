/**
 * How blocks of decode attention share rows of KV: even stretches of all rows' tokens in whole tiles (Stream-K,
 * arXiv:2301.03598), the parts of a row joined by one block (Flash-Decoding).
 */
import type { AttendOperation } from '../program/operation.ts';
import { commonDivisor, type Tiling } from './tiling.ts';

const PAGE_TOKENS = 64;

/** What one kernel of attention reads: `bytes` of KV, `tokens` a row. */
export interface Attended {
  readonly bytes: number;
  readonly tokens: number;
  readonly isCoded: boolean;
}

/** Blocks get whole rows where that makes them longer by at most one part in so many: kernels/cuda/attend-split.cuh. */
export const WHOLE_ROWS = 16;

/** Blocks that list parts share long rows out as they come, from so many rounds of their warps on: attend-split.cuh. */
export const POOLED_ROUNDS = 4;
const WARP_THREADS = 32;

/** What a block of so many rows reads at most, and of the first of them, as shares of what the block that reads most does. */
interface Load {
  readonly rows: number;
  readonly share: number;
  readonly firstShare: number;
}

const WHOLE_LOAD: Load = { rows: 1, share: 1, firstShare: 1 };

/** How rows are cut: rows that a block attends to in turn, and blocks that attend to a row, both at most; blocks of all. */
interface Split {
  readonly turns: number;
  readonly parts: number;
  readonly blocks: number;
  readonly loads: readonly Load[];
}

const wholePages = (tokens: number, pageTokens: number): number =>
  Math.max(1, Math.ceil(tokens / pageTokens) * pageTokens);

/** Tokens of a block of `rows` rows, which take `total` with their pages filled up: kernels/cuda/attend-split.cuh. */
const stretchOf = (rows: number, total: number, sms: number, tile: number): number => {
  const equal = Math.ceil(total / sms / tile);
  const whole = (Math.ceil(rows / sms) * Math.floor(total / rows)) / tile;
  const isWhole = Number.isInteger(whole) && whole - equal <= Math.floor(equal / WHOLE_ROWS);
  return (isWhole ? whole : equal) * tile;
};

/** Rows that lie one behind the other, in whole pages, and are cut at every stretch; their lengths repeat. */
const cutRows = (
  rows: number,
  lengths: readonly number[],
  places: readonly number[],
  stretch: number,
): Omit<Split, 'blocks'> => {
  // Most tokens of a block, and of its first row, by its rows.
  const most: number[] = [0];
  const firsts: number[] = [0];
  let [parts, start, block, held, tokens, begun] = [1, 0, 0, 0, 0, 0];
  const close = (): void => {
    while (most.length <= held) {
      most.push(0);
      firsts.push(0);
    }
    most[held] = Math.max(most[held], tokens);
    firsts[held] = Math.max(firsts[held], begun);
  };
  for (let row = 0; row < rows; row++) {
    const at = row % lengths.length;
    const end = start + Math.max(1, Math.ceil(lengths[at]));
    const [first, last] = [start, end - 1].map((token) => Math.floor(token / stretch));
    parts = Math.max(parts, last - first + 1);
    if (first > block) {
      close();
      held = tokens = 0;
    }
    held++;
    tokens += Math.min(end, (first + 1) * stretch) - start;
    if (held === 1) begun = tokens;
    if (last > first) {
      close();
      if (last - first > 1) {
        [held, tokens, begun] = [1, stretch, stretch];
        close();
      }
      held = 1;
      tokens = begun = end - last * stretch;
    }
    block = last;
    start += places[at];
  }
  close();
  const longest = Math.max(...most);
  const loads = most.flatMap((own, count) =>
    own > 0 ? { rows: count, share: own / longest, firstShare: firsts[count] / longest } : [],
  );
  return { turns: most.length - 1, parts, loads };
};

interface KnownSplit {
  readonly tokens: number;
  readonly sms: number;
  readonly tile: number;
  readonly merge: Tiling['attendMerge'];
  readonly split: Split;
}

/** A fit asks for the same operations again and again. */
const known = {
  raw: new WeakMap<AttendOperation, KnownSplit>(),
  coded: new WeakMap<AttendOperation, KnownSplit>(),
};

/** How blocks share rows, where each takes an even stretch of all rows' tokens in whole tiles. */
export const splitOf = (operation: AttendOperation, { tokens, isCoded }: Attended, tiling: Tiling): Split => {
  const { sms, attendTiles } = tiling;
  const { sequences, kvHeads, pageTokens = PAGE_TOKENS, rowTokens } = operation;
  const rows = sequences * kvHeads;
  const tile = isCoded ? attendTiles?.coded : attendTiles?.raw;
  if (tile === undefined)
    return { turns: 1, parts: Math.max(1, Math.ceil(sms / rows)), blocks: sms, loads: [WHOLE_LOAD] };
  const asked = isCoded ? known.coded : known.raw;
  const before = asked.get(operation);
  const merge = tiling.attendMerge;
  if (before?.tokens === tokens && before.sms === sms && before.tile === tile && before.merge === merge)
    return before.split;
  const lengths = rowTokens ?? [tokens];
  const places = lengths.map((length) => wholePages(length, pageTokens));
  const total = (rows / lengths.length) * places.reduce((sum, place) => sum + place, 0);
  const stretch = stretchOf(rows, total, sms, tile);
  const { threads = Infinity } = mergeBlock(operation, tiling) ?? {};
  const isPooled =
    listsParts(operation, isCoded, tiling) && stretch / tile >= (POOLED_ROUNDS * threads) / WARP_THREADS;
  // Rows that are alike are cut alike again where one begins with a block.
  const [place] = places;
  const unlike = places.length > 1 ? rows : Math.min(rows, stretch / commonDivisor(stretch, place));
  const cut = {
    ...cutRows(unlike, lengths, places, stretch),
    blocks: Math.min(sms, Math.ceil(total / stretch)),
  };
  // Who is behind leaves its last tokens to others.
  const split = isPooled ? { ...cut, turns: 1, loads: [WHOLE_LOAD] } : cut;
  asked.set(operation, { tokens, sms, tile, merge, split });
  return split;
};

/** Parts that would take one block more turns than so many are joined in groups, so many of them: attend-finish.cuh. */
export const JOINED_TURNS = 5;
export const JOINED_GROUPS = 8;

/** Numbers of a part that a thread takes at a time. */
const THREAD_NUMBERS = 4;

/** The blocks that attend with these heads; undefined where that is not known. */
export const mergeBlock = ({ heads, kvHeads, headDim }: AttendOperation, { attendMerge }: Tiling) => {
  if (attendMerge === null) return undefined;
  const { blocks } = attendMerge;
  const own = blocks.filter((block) => block.headDim === headDim);
  const fitting = own.length > 0 ? own : blocks.filter(({ headDim: most, pads }) => pads && most > headDim);
  return fitting.find(({ queryRows }) => queryRows >= heads / kvHeads) ?? fitting.at(-1) ?? blocks.at(-1);
};

/** Blocks that read the same KV of a row, each for as many of its query heads as it holds. */
export const headTiles = (operation: AttendOperation, tiling: Tiling): number => {
  const { heads, kvHeads } = operation;
  return Math.ceil(heads / kvHeads / (mergeBlock(operation, tiling)?.queryRows ?? Infinity)) || 1;
};

/** Groups of four channels of the query heads that a block holds. */
const itemsOf = ({ heads, kvHeads, headDim }: AttendOperation, queryRows: number): number =>
  (Math.min(heads / kvHeads, queryRows) * headDim) / THREAD_NUMBERS;

type Block = NonNullable<ReturnType<typeof mergeBlock>>;

/** Whether so many parts of a row are more than a block loads in a few turns. */
const needsGroups = (
  operation: AttendOperation,
  parts: number,
  { queryRows, threads }: Block,
  { attendMerge }: Tiling,
): boolean =>
  parts * itemsOf(operation, queryRows) > JOINED_TURNS * (attendMerge?.parts ?? Infinity) * threads;

/** Whether blocks list the parts of a row, so that any may take of it; and one of them joins all: attend.cu. */
const listsParts = (operation: AttendOperation, isCoded: boolean, tiling: Tiling): boolean => {
  const block = mergeBlock(operation, tiling);
  if (block?.lists === undefined || isCoded || operation.headDim !== block.headDim) return false;
  const rows = operation.sequences * operation.kvHeads;
  const parts = Math.floor(tiling.sms / rows);
  return parts >= block.lists && !(block.listsFew && needsGroups(operation, parts, block, tiling));
};

/** `levels` and `rounds` as joiningOf says; `isListed`: blocks look up first where parts lie. */
interface Joining {
  readonly levels: number;
  readonly rounds: number;
  readonly isListed: boolean;
}

/**
 * How the parts of a row are joined: by one block, or by one a group and then by one of those; and how often blocks wait
 * for parts, which is once where that is not known.
 */
export const joiningOf = (
  operation: AttendOperation,
  { isCoded }: Pick<Attended, 'isCoded'>,
  parts: number,
  tiling: Tiling,
): Joining => {
  const block = mergeBlock(operation, tiling);
  if (block === undefined || tiling.attendMerge === null) return { levels: 1, rounds: 1, isListed: false };
  const { parts: ahead } = tiling.attendMerge;
  const { threads } = block;
  const items = itemsOf(operation, block.queryRows);
  const teams = Math.max(1, Math.floor(threads / items));
  const roundsOf = (count: number): number => Math.ceil(count / (teams * ahead)) * Math.ceil(items / threads);
  const isListed = listsParts(operation, isCoded, tiling);
  if (isListed || !needsGroups(operation, parts, block, tiling))
    return { levels: 1, rounds: roundsOf(parts), isListed };
  const each = Math.ceil(parts / JOINED_GROUPS);
  return { levels: 2, rounds: roundsOf(each) + roundsOf(Math.ceil(parts / each)), isListed };
};
