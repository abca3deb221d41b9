/**
 * How kvtier's own top-k shares rows among multiprocessors (kernels/cuda/select.h, select-few-launch.h): a cluster of blocks
 * a row, as many as find their place at once, whose threads sweep tiles of keys. Steps of its time are steps of these.
 */
import type { SelectOperation } from '../program/operation.ts';

/** Positions of a block from which on a row gets twice as many blocks, by sweeps of all scores. */
export const SHARED_SLICE = 8192;
/** The same where groups' maxima come first, the shares that a row may have, and where that starts to pay. */
export const FEW_SLICE = 16_384;
export const FEW_CLUSTERS = [16, 12, 8, 6, 4, 3, 2];
export const LEAST_FEW = 8192;
export const LEAST_SCORES = 2 ** 20;
/** Scores of a group, and keys that the first block of a shared row has room for. */
export const GROUP = 8;
export const GATHERED = 16_384;
/** Bytes of shared memory that a block may have for its lists, and the most and fewest candidates in them. */
const ROOM_BYTES = 215_000;
const MOST_CANDIDATES = 8192;
const LEAST_CANDIDATES = 1024;
export const FEWEST_THREADS = 256;
const MOST_THREADS = 1024;
/** Most threads of a block that sweeps small counts where rows are many (select-counts.h). */
const MANY_COUNT_THREADS = 512;
/** Keys of a thread's tile where a block sweeps its scores, or small counts (select-counts.h). */
const TILE_KEYS = [4, 8, 16];
const COUNT_KEYS = [8, 16, 32, 64];
/** Groups of a thread where it takes maxima first. */
const FEW_GROUPS = [4, 16];
/** Scores above the bound for one that is chosen: the bound is a digit's edge, at which up to twice as many groups are left. */
const LEFT_OF_CHOSEN = 1.5;

/** Ways of going about a row; the numbers only tell them apart. */
const WAYS = { alone: 1, shared: 2, few: 4, fewMore: 16, overflow: 64 };

/** What a block of a selection does. */
export interface SelectBlocks {
  /** Tells apart what does other work: see WAYS; twice that where a row is shared. */
  readonly way: number;
  /** Positions that a block has of a row. */
  readonly slice: number;
  /** Keys that a sweep of a block goes over: all in whole tiles, or the maxima of its groups. */
  readonly swept: number;
  /** Whether groups' maxima are taken first, and whether all is swept after that since too many scores were left. */
  readonly few: boolean;
  readonly overflows: boolean;
  readonly shared: boolean;
  /** Blocks that a multiprocessor takes one after the other. */
  readonly turns: number;
}

type Selected = Pick<SelectOperation, 'rows' | 'of' | 'k'>;

const threadsOf = (slice: number, keys: number, most = MOST_THREADS): number => {
  let threads = FEWEST_THREADS;
  while (threads < most && slice > keys * threads) threads *= 2;
  return threads;
};

const sliceOf = (of: number, blocks: number): number => Math.ceil(Math.ceil(of / blocks) / 32) * 32;

/** Two bits a position, positions and keys of candidates, and keys of all blocks in the first one. */
const listBytes = (slice: number, shared: boolean): number => {
  const candidates = Math.min(MOST_CANDIDATES, Math.max(LEAST_CANDIDATES, Math.floor(slice / 4)));
  return 4 * (slice / 16 + 3 * candidates + (shared ? GATHERED : 0));
};

/** Registers of a block of the most threads fill a multiprocessor. */
const turnsOf = (blocks: number, threads: number, sms: number): number =>
  Math.ceil(blocks / (sms * (MOST_THREADS / threads)));

/** Keys in whole tiles of all threads. */
const sweptOf = (slice: number, threads: number, tiles: readonly number[] = TILE_KEYS): number => {
  const keys = tiles.find((tile) => slice <= tile * threads) ?? tiles[tiles.length - 1];
  return Math.ceil(slice / (keys * threads)) * keys * threads;
};

const fewBlocks = ({ rows, of, k }: Selected, together: readonly number[]): SelectBlocks | null => {
  if (of < LEAST_FEW || rows * of < LEAST_SCORES) return null;
  const blocks =
    FEW_CLUSTERS.find((size) => of >= size * FEW_SLICE && (together[size - 1] ?? 0) >= rows) ?? 1;
  const slice = sliceOf(of, blocks);
  const threads = threadsOf(slice, rows * blocks > together[0] ? 32 : 16);
  const [few, more] = FEW_GROUPS;
  const groups = slice <= few * GROUP * threads ? few : more;
  const chunks = Math.ceil(slice / (groups * GROUP * threads));
  const shared = blocks > 1;
  if (2 * k * GROUP * chunks > of || listBytes(slice, shared) > ROOM_BYTES) return null;
  const overflows = shared && LEFT_OF_CHOSEN * k > GATHERED;
  const way = overflows ? WAYS.overflow : groups === few ? WAYS.few : WAYS.fewMore;
  return {
    way: shared ? 2 * way : way,
    slice,
    swept: groups * threads,
    few: true,
    overflows,
    shared,
    turns: turnsOf(rows * blocks, threads, together[0]),
  };
};

const sweepingBlocks = (
  { rows, of, keys }: Selected & Pick<SelectOperation, 'keys'>,
  together: readonly number[],
): SelectBlocks => {
  let blocks = 1;
  while (blocks < 16 && of > SHARED_SLICE * blocks && (together[2 * blocks - 1] ?? 0) >= rows) blocks *= 2;
  const slice = sliceOf(of, blocks);
  // Where rows are many, threads take more scores each, so that smaller blocks find their place side by side.
  const counts = keys === 'counts';
  const many = rows * blocks > together[0];
  const threads = counts
    ? threadsOf(slice, COUNT_KEYS[0], many ? MANY_COUNT_THREADS : MOST_THREADS)
    : threadsOf(slice, many ? TILE_KEYS[2] : TILE_KEYS[1]);
  const shared = blocks > 1;
  return {
    way: shared ? WAYS.shared : WAYS.alone,
    slice,
    swept: sweptOf(slice, threads, counts ? COUNT_KEYS : TILE_KEYS),
    few: false,
    overflows: false,
    shared,
    turns: turnsOf(rows * blocks, threads, together[0]),
  };
};

/**
 * Blocks that select from these rows. `together`: clusters of 1, 2, … blocks that run at once. Small counts are always
 * swept.
 */
export const selectBlocks = (
  operation: Selected & Pick<SelectOperation, 'keys'>,
  together: readonly number[],
): SelectBlocks =>
  (operation.keys === 'counts' ? null : fewBlocks(operation, together)) ??
  sweepingBlocks(operation, together);

/** Keys of an overflow's sweeps of all scores. */
export const overflowSwept = ({ slice }: SelectBlocks): number => sweptOf(slice, MOST_THREADS);
