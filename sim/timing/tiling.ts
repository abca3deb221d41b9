/**
 * What kernels take at a time, and how blocks of decode attention share rows of KV: even stretches of all rows' tokens in
 * whole tiles (Stream-K, arXiv:2301.03598), the parts of a row joined by one block (Flash-Decoding).
 */
import type { Stack } from '../hardware/stack-schema.ts';
import type { AttendOperation } from '../program/operation.ts';

/** What kernels of a machine take at a time. */
export interface Tiling {
  readonly sms: number;
  readonly tokenTiles: readonly number[];
  /** Tokens of a tile of raw and of coded KV; null = not known. */
  readonly attendTiles: { readonly raw: number; readonly coded: number } | null;
  /** Query rows of a KV head that attention takes at a time, and whether it takes one alone. */
  readonly attendRows: { readonly value: number; readonly alone: boolean };
  /** Clusters of 1, 2, … blocks of a multiprocessor each that run at once; null = not known. */
  readonly selectClusters: readonly number[] | null;
  /** How one block joins the parts of a row; null = not known. See the stack's schema. */
  readonly attendMerge: {
    readonly parts: number;
    readonly blocks: readonly {
      readonly headDim: number;
      readonly queryRows: number;
      readonly threads: number;
    }[];
  } | null;
}

/** Query rows of a tile of tensor cores (m16n8k16). */
const TENSOR_ROWS: Tiling['attendRows'] = { value: 16, alone: false };

const PAGE_TOKENS = 64;

const commonDivisor = (a: number, b: number): number => (b === 0 ? a : commonDivisor(b, a % b));

/** What one kernel of attention reads: `bytes` of KV, `tokens` a row. */
export interface Attended {
  readonly bytes: number;
  readonly tokens: number;
  readonly isCoded: boolean;
}

/** Blocks get whole rows where that makes them longer by at most one part in so many: kernels/cuda/attend-split.cuh. */
export const WHOLE_ROWS = 16;

/**
 * How blocks share rows, where each takes an even stretch of all rows' tokens in whole tiles: rows that a block attends to
 * in turn, and blocks that attend to a row, both at most. Turns are 1 where each row is that of whole blocks.
 */
export const splitOf = (
  { sequences, kvHeads, pageTokens = PAGE_TOKENS }: AttendOperation,
  { tokens, isCoded }: Attended,
  { sms, attendTiles }: Tiling,
): { readonly turns: number; readonly parts: number } => {
  const rows = sequences * kvHeads;
  const tile = isCoded ? attendTiles?.coded : attendTiles?.raw;
  if (tile === undefined) return { turns: 1, parts: Math.max(1, Math.ceil(sms / rows)) };
  const each = Math.max(1, Math.ceil(tokens / pageTokens) * pageTokens);
  const equal = Math.ceil((rows * each) / sms / tile);
  const whole = (Math.ceil(rows / sms) * each) / tile;
  const isWhole = Number.isInteger(whole) && whole - equal <= Math.floor(equal / WHOLE_ROWS);
  const stretch = (isWhole ? whole : equal) * tile;
  const off = stretch - commonDivisor(stretch, each);
  return {
    turns: Math.ceil(off / each) + 1,
    parts: Math.ceil((off + Math.min(each, Math.ceil(tokens))) / stretch),
  };
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

/** How often a block waits for parts of a row that it joins: 1 where that is not known. */
export const mergeRounds = (operation: AttendOperation, parts: number, tiling: Tiling): number => {
  const block = mergeBlock(operation, tiling);
  if (block === undefined || tiling.attendMerge === null) return 1;
  const { heads, kvHeads, headDim } = operation;
  const items = (Math.min(heads / kvHeads, block.queryRows) * headDim) / THREAD_NUMBERS;
  const teams = Math.max(1, Math.floor(block.threads / items));
  return Math.ceil(parts / (teams * tiling.attendMerge.parts)) * Math.ceil(items / block.threads);
};

/** What a stack says of its kernels, on so many multiprocessors. */
export const tilingOf = ({ gemm, decodeAttention, select }: Stack, sms: number): Tiling => ({
  sms,
  tokenTiles: gemm.tokenTiles?.sizes ?? [],
  attendTiles: decodeAttention.tileTokens ?? null,
  attendRows: decodeAttention.tileRows ?? TENSOR_ROWS,
  attendMerge: decodeAttention.merge ?? null,
  selectClusters: select.clusters?.values ?? null,
});
