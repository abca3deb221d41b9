/**
 * What kvtier's own kernels take at a time and how their blocks share work, as their sources state it: put into the stack of
 * a machine that they were measured on, so that laws and tables step where kernels do.
 */
import { FORMATS } from '../../kernels/formats.ts';
import type { Stack } from '../../sim/hardware/stack-schema.ts';
import type { Constant, MachineDescription } from '../overlay.ts';
import type { Samples } from '../samples.ts';

/** Tokens that kernels take at a time: what kernels/cuda/gemm.cu and attend-kernel.cuh do; other backends' take any number. */
const TOKEN_TILES = [8, 16, 32, 64];
/** Weights of a warp's step, rows of a tile of weights and blocks of a multiprocessor, for each tile of tokens. */
export const PRODUCT_BLOCKS = {
  depth: 128,
  blocks: [
    { rows: 16, perUnit: 2 },
    { rows: 16, perUnit: 2 },
    { rows: 32, perUnit: 1 },
    { rows: 32, perUnit: 1 },
  ],
};
/** Tokens and columns that a block of a rebuilding product takes: tile-product.h, delta-rebuild.cu. */
export const REBUILD_TILE = { tokens: 128, columns: 128 };
/** What a thread of declared work takes, and how many blocks of them: work.cu. */
const WORK_BLOCKS = { bytes: 16, flops: 64, threads: 512, perUnit: 4 };
/** A block codes so many tokens of keys or values, or the whole group of a channel: encode.cu. */
const ENCODED_TOKENS = 32;
export const LONG_CODED = Object.entries(FORMATS).flatMap(([name, { keys }]) =>
  keys.bits < 16 && keys.groupChannels === 1 && keys.groupTokens > ENCODED_TOKENS ? [name] : [],
);
const ATTEND_TILES = { raw: 16, coded: 32 };
/** Threads of a block that attends, and parts of which each has loads in flight when it joins a row: attend.cu, attend-finish.cuh. */
export const ATTEND_MERGE = {
  parts: 12,
  blocks: [
    { headDim: 64, queryRows: 8, threads: 512 },
    { headDim: 64, queryRows: 16, threads: 384 },
    { headDim: 128, queryRows: 8, threads: 384, pads: true, lists: 16 },
    { headDim: 128, queryRows: 16, threads: 256 },
    { headDim: 256, queryRows: 8, threads: 256, pads: true, lists: 16, listsFew: true },
  ],
};

/** The block of them that the law's start is of: 8 query heads by 128, as most models have. */
export const USUAL_BLOCK = 2;

type Mutable<T> = { -readonly [name in keyof T]: T[name] };

/** States it in the description's stack, in place of what stands there; the constant says where and when. */
export const describeTiles = (
  { stack }: MachineDescription,
  { backend, clusters }: Samples['machine'],
  { value: _, status: __, ...provenance }: Constant,
): void => {
  const gemm = stack.gemm as { tokenTiles?: Stack['gemm']['tokenTiles'] };
  const attention = stack.decodeAttention as Pick<
    Mutable<Stack['decodeAttention']>,
    'tileTokens' | 'tileRows' | 'merge'
  >;
  const select = stack.select as Mutable<Stack['select']>;
  const stated = { status: 'measured', ...provenance } as const;
  delete (stack as Mutable<Stack>).rebuild;
  delete (stack as Mutable<Stack>).work;
  delete (stack as Mutable<Stack>).encode;
  delete gemm.tokenTiles;
  delete attention.tileTokens;
  delete attention.tileRows;
  delete attention.merge;
  delete select.clusters;
  if (backend !== 'cuda') {
    attention.tileRows = { value: 4, alone: true, ...stated, how: 'kernels/cpu/attend-tile.h' };
    return;
  }
  gemm.tokenTiles = { sizes: TOKEN_TILES, ...PRODUCT_BLOCKS, ...stated, how: 'kernels/cuda/gemm.cu' };
  (stack as Mutable<Stack>).rebuild = {
    ...REBUILD_TILE,
    ...stated,
    how: 'kernels/cuda/tile-product.h, delta-rebuild.cu',
  };
  (stack as Mutable<Stack>).work = { ...WORK_BLOCKS, ...stated, how: 'kernels/cuda/work.cu' };
  (stack as Mutable<Stack>).encode = {
    long: LONG_CODED,
    ...stated,
    how: 'kernels/cuda/encode.cu',
  };
  // Query heads are the columns of its products (m16n8k16).
  attention.tileRows = { value: 8, alone: false, ...stated, how: 'kernels/cuda/attend-queries.cuh' };
  attention.tileTokens = { ...ATTEND_TILES, ...stated, how: 'kernels/cuda/attend-store.cuh' };
  if (clusters !== undefined)
    select.clusters = { values: [...clusters], ...stated, how: 'kernels/cuda/select.h' };
  // Its blocks get numbers that are fitted.
  attention.merge = { ...structuredClone(ATTEND_MERGE), ...stated, how: 'kernels/cuda/attend-finish.cuh' };
};
