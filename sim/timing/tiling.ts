/**
 * What kernels take at a time, and how blocks of decode attention share rows of KV: even stretches of all rows' tokens in
 * whole tiles (Stream-K, arXiv:2301.03598), the parts of a row joined by one block (Flash-Decoding).
 */
import type { Stack } from '../hardware/stack-schema.ts';
import type { AttendOperation, Gemm } from '../program/operation.ts';

/** What kernels of a machine take at a time. */
export interface Tiling {
  readonly sms: number;
  readonly tokenTiles: readonly number[];
  /** How blocks share the product of a tile, for each of `tokenTiles`, in steps of so many weights; null = not known. */
  readonly productBlocks: {
    readonly depth: number;
    readonly blocks: readonly { readonly rows: number; readonly perUnit: number }[];
  } | null;
  /** Tokens of a tile of raw and of coded KV; null = not known. */
  readonly attendTiles: { readonly raw: number; readonly coded: number } | null;
  /** Query rows of a KV head that attention takes at a time, and whether it takes one alone. */
  readonly attendRows: { readonly value: number; readonly alone: boolean };
  /** Tile of the products that rebuild chosen tokens; null = not known. */
  readonly rebuildTile: { readonly tokens: number; readonly columns: number } | null;
  /** Clusters of 1, 2, … blocks of a multiprocessor each that run at once; null = not known. */
  readonly selectClusters: readonly number[] | null;
  /** How one block joins the parts of a row; null = not known. See the stack's schema. */
  readonly attendMerge: {
    readonly parts: number;
    readonly blocks: readonly {
      readonly headDim: number;
      readonly queryRows: number;
      readonly threads: number;
      readonly lists?: number | undefined;
    }[];
  } | null;
}

/** Query rows of a tile of tensor cores (m16n8k16). */
const TENSOR_ROWS: Tiling['attendRows'] = { value: 16, alone: false };

const PAGE_TOKENS = 64;

/** Greatest common divisor of whole numbers. */
export const commonDivisor = (a: number, b: number): number => (b === 0 ? a : commonDivisor(b, a % b));

/**
 * Tiles of weights that a block of a product finishes one after the other, at most: it takes an even stretch of all steps
 * along all tiles, which starts anywhere within one. 1 where that is not known.
 */
export const productTurns = (
  { m, n, k }: Pick<Gemm, 'm' | 'n' | 'k'>,
  { sms, tokenTiles, productBlocks }: Tiling,
): number => {
  const block = productBlocks?.blocks[tokenTiles.indexOf(m)];
  if (productBlocks === null || block === undefined) return 1;
  const steps = Math.ceil(k / productBlocks.depth);
  const stretch = Math.ceil((Math.ceil(n / block.rows) * steps) / (block.perUnit * sms));
  return Math.ceil((steps - commonDivisor(stretch, steps) + stretch) / steps);
};

/** What one kernel of attention reads: `bytes` of KV, `tokens` a row. */
export interface Attended {
  readonly bytes: number;
  readonly tokens: number;
  readonly isCoded: boolean;
}

/** Blocks get whole rows where that makes them longer by at most one part in so many: kernels/cuda/attend-split.cuh. */
export const WHOLE_ROWS = 16;

/** What a block of so many rows reads at most, as a share of what the block that reads most does. */
interface Load {
  readonly rows: number;
  readonly share: number;
}

/** How rows are cut: rows that a block attends to in turn, and blocks that attend to a row, both at most. */
interface Split {
  readonly turns: number;
  readonly parts: number;
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
): Split => {
  // Most tokens of a block, by its rows.
  const most: number[] = [0];
  let [parts, start, block, held, tokens] = [1, 0, 0, 0, 0];
  const close = (): void => {
    while (most.length <= held) most.push(0);
    most[held] = Math.max(most[held], tokens);
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
    if (last > first) {
      close();
      if (last - first > 1) {
        [held, tokens] = [1, stretch];
        close();
      }
      held = 1;
      tokens = end - last * stretch;
    }
    block = last;
    start += places[at];
  }
  close();
  const longest = Math.max(...most);
  const loads = most.flatMap((own, count) => (own > 0 ? { rows: count, share: own / longest } : []));
  return { turns: most.length - 1, parts, loads };
};

interface KnownSplit {
  readonly tokens: number;
  readonly sms: number;
  readonly tile: number;
  readonly split: Split;
}

/** A fit asks for the same operations again and again. */
const known = {
  raw: new WeakMap<AttendOperation, KnownSplit>(),
  coded: new WeakMap<AttendOperation, KnownSplit>(),
};

/** How blocks share rows, where each takes an even stretch of all rows' tokens in whole tiles. */
export const splitOf = (
  operation: AttendOperation,
  { tokens, isCoded }: Attended,
  { sms, attendTiles }: Tiling,
): Split => {
  const { sequences, kvHeads, pageTokens = PAGE_TOKENS, rowTokens } = operation;
  const rows = sequences * kvHeads;
  const tile = isCoded ? attendTiles?.coded : attendTiles?.raw;
  if (tile === undefined)
    return { turns: 1, parts: Math.max(1, Math.ceil(sms / rows)), loads: [{ rows: 1, share: 1 }] };
  const asked = isCoded ? known.coded : known.raw;
  const before = asked.get(operation);
  if (before?.tokens === tokens && before.sms === sms && before.tile === tile) return before.split;
  const lengths = rowTokens ?? [tokens];
  const places = lengths.map((length) => wholePages(length, pageTokens));
  const total = (rows / lengths.length) * places.reduce((sum, place) => sum + place, 0);
  const stretch = stretchOf(rows, total, sms, tile);
  // Rows that are alike are cut alike again where one begins with a block.
  const [place] = places;
  const unlike = places.length > 1 ? rows : Math.min(rows, stretch / commonDivisor(stretch, place));
  const split = cutRows(unlike, lengths, places, stretch);
  asked.set(operation, { tokens, sms, tile, split });
  return split;
};

/** Numbers of a part that a thread takes at a time. */
const THREAD_NUMBERS = 4;

/** The blocks that attend with these heads; undefined where that is not known. */
export const mergeBlock = ({ heads, kvHeads, headDim }: AttendOperation, { attendMerge }: Tiling) => {
  if (attendMerge === null) return undefined;
  const { blocks } = attendMerge;
  const fitting = blocks.filter((block) => block.headDim >= headDim);
  return (
    fitting.find(({ queryRows }) => queryRows >= heads / kvHeads) ?? fitting[0] ?? blocks[blocks.length - 1]
  );
};

/** Parts that would take one block more turns than so many are joined in groups, so many of them: attend-finish.cuh. */
export const JOINED_TURNS = 5;
export const JOINED_GROUPS = 8;

/**
 * How the parts of a row are joined: by one block, or by one a group and then by one of those; and how often blocks wait
 * for parts, which is once where that is not known.
 */
export const joiningOf = (
  operation: AttendOperation,
  { isCoded }: Pick<Attended, 'isCoded'>,
  parts: number,
  tiling: Tiling,
): { readonly levels: number; readonly rounds: number } => {
  const block = mergeBlock(operation, tiling);
  if (block === undefined || tiling.attendMerge === null) return { levels: 1, rounds: 1 };
  const { sequences, heads, kvHeads, headDim } = operation;
  const { parts: ahead } = tiling.attendMerge;
  const { threads, lists = Infinity } = block;
  const items = (Math.min(heads / kvHeads, block.queryRows) * headDim) / THREAD_NUMBERS;
  const teams = Math.max(1, Math.floor(threads / items));
  const roundsOf = (count: number): number => Math.ceil(count / (teams * ahead)) * Math.ceil(items / threads);
  const isListed = !isCoded && headDim === block.headDim && sequences * kvHeads * lists <= tiling.sms;
  if (isListed || parts * items <= JOINED_TURNS * ahead * threads)
    return { levels: 1, rounds: roundsOf(parts) };
  const each = Math.ceil(parts / JOINED_GROUPS);
  return { levels: 2, rounds: roundsOf(each) + roundsOf(Math.ceil(parts / each)) };
};

const productBlocksOf = ({
  depth,
  blocks,
}: Partial<NonNullable<Stack['gemm']['tokenTiles']>> = {}): Tiling['productBlocks'] =>
  depth === undefined || blocks === undefined ? null : { depth, blocks };

/** What a stack says of its kernels, on so many multiprocessors. */
export const tilingOf = ({ gemm, decodeAttention, rebuild, select }: Stack, sms: number): Tiling => ({
  sms,
  tokenTiles: gemm.tokenTiles?.sizes ?? [],
  productBlocks: productBlocksOf(gemm.tokenTiles),
  attendTiles: decodeAttention.tileTokens ?? null,
  attendRows: decodeAttention.tileRows ?? TENSOR_ROWS,
  attendMerge: decodeAttention.merge ?? null,
  rebuildTile: rebuild ?? null,
  selectClusters: select.clusters?.values ?? null,
});
