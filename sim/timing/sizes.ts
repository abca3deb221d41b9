/** Sizes of work by which the speed of a kernel was measured: what the axes of a table of utilisation can be. */
import type { SizeName } from '../hardware/utilisation-schema.ts';
import type {
  AttendOperation,
  Gemm,
  MergeOperation,
  Operation,
  ScoreOperation,
  SelectOperation,
} from '../program/operation.ts';
import { type Attended, mergeBlock, splitOf } from './attend-split.ts';
import { looksUp } from './look-ups.ts';
import { rebuildTurns } from './product-tiles.ts';
import { selectBlocks } from './select-blocks.ts';
import type { Tiling } from './tiling.ts';
import { workTurns } from './work-blocks.ts';

export type Sizes = Readonly<Partial<Record<SizeName, number>>>;

/** A product of `tokens` rows of activations with `bytes` of weights. */
export const gemmSizes = ({ m, weightBytes }: Gemm): Sizes => ({ tokens: m, bytes: weightBytes });

/**
 * Products that a product is made of by kernels that take tiles of tokens: the largest tile as often as it fits, then the
 * least that takes the rest. One of the very size where there are no tiles.
 */
export const tiledProducts = (product: Gemm, tiles: readonly number[]): readonly Gemm[] => {
  const most = tiles.at(-1);
  if (most === undefined) return [product];
  const whole = Math.floor(product.m / most);
  const rest = product.m - whole * most;
  const ends = tiles.find((tile) => tile >= rest) ?? most;
  const full = Array.from({ length: whole }, () => ({ ...product, m: most }));
  return rest > 0 ? [...full, { ...product, m: ends }] : full;
};

export interface Streaming {
  readonly readBytes: number;
  readonly writeBytes: number;
  readonly flops: number;
  readonly matrixFlops?: number | undefined;
  readonly kernels: number;
}

/** Work that streams through HBM, spread over its launches; `bytes` = what it reads or writes, whichever is more. */
export const streamingSizes = (work: Streaming): Sizes => {
  const { readBytes, writeBytes, flops, matrixFlops = 0, kernels } = work;
  const bytes = Math.max(1, readBytes, writeBytes);
  return {
    bytes: bytes / Math.max(1, kernels),
    flopsPerByte: 1 + flops / bytes,
    matrixFlopsPerByte: 1 + matrixFlops / bytes,
    writeShare: 1 + writeBytes / Math.max(1, readBytes + writeBytes),
  };
};

/** Attention by one kernel. */
export const attendSizes = (operation: AttendOperation, attended: Attended, tiling: Tiling): Sizes => ({
  rows: operation.sequences * operation.kvHeads,
  headDim: operation.headDim,
  bytes: Math.max(1, attended.bytes),
  turns: splitOf(operation, attended, tiling).turns,
  queryRows: mergeBlock(operation, tiling)?.queryRows ?? 1,
});

/** Bytes of K and V of a token in one KV head, raw. */
export const rawTokenBytes = ({ headDim }: AttendOperation): number => 4 * headDim;

/** What threads of the host read, write and compute. */
export interface HostWork {
  readonly readBytes: number;
  readonly writeBytes: number;
  readonly flops: number;
  /** Bytes of a row where what is read lies scattered. */
  readonly rowBytes?: number;
  /** Lists that threads take one after the other, each anywhere in memory. */
  readonly lists?: number;
  /** Keys that lists are of: a thread counts how often it meets each. */
  readonly keys?: number;
}

export const hostSizes = (work: HostWork): Sizes => ({
  ...streamingSizes({ ...work, kernels: 1 }),
  ...(work.rowBytes === undefined ? {} : { rowBytes: work.rowBytes }),
  ...(work.lists === undefined ? {} : { rows: work.lists }),
  ...(work.keys === undefined ? {} : { candidates: work.keys }),
});

/** Where a list begins and ends, and a key of it. */
const BOUNDS_BYTES = 8;
const KEY_BYTES = 4;

/** A row is the key and the value of one token, which lie side by side; queries that share a list read it once. */
export const hostAttendWork = (operation: AttendOperation): HostWork => {
  const readBytes = (operation.readBytes.dram ?? 0) + (operation.readBytes.hbm ?? 0);
  const rowBytes = rawTokenBytes(operation);
  const lists = readBytes / rowBytes / Math.max(1, operation.contextTokens);
  return { readBytes, writeBytes: 0, flops: operation.flops, rowBytes, lists };
};

/**
 * Keys looked up by code: a query looks for a list of each table, reads its keys, and leaves those that it has met often
 * enough. What it counts meanwhile stays in the thread's own caches.
 */
const lookUpWork = ({ rows, call }: ScoreOperation): HostWork | null => {
  const { counts: { hashed: keys, probes, sampled = 0 } = {}, shape: { queries, tables } = {} } = call ?? {};
  if (rows === undefined || probes === undefined || queries === undefined || tables === undefined)
    return null;
  const lists = rows * queries * tables;
  return {
    readBytes: BOUNDS_BYTES * lists + KEY_BYTES * rows * probes,
    writeBytes: KEY_BYTES * rows * sampled,
    // Where it is counted, and by how much.
    flops: 2 * rows * probes,
    lists,
    ...(keys === undefined ? {} : { keys }),
  };
};

export const hostScoreWork = (operation: ScoreOperation): HostWork => {
  const { readBytes, writeBytes, flops, matrixFlops = 0 } = operation;
  return (
    lookUpWork(operation) ?? {
      readBytes: readBytes.dram ?? 0,
      writeBytes: writeBytes.dram ?? 0,
      flops: flops + matrixFlops,
    }
  );
};

/** Vectors that hashing takes at a time: kernels/cuda/lsh-hash.cu. */
export const HASHED_AT_ONCE = 8;

/** Query heads that kernels which multiply keys take at once, in tiles of 8: kernels/cuda/row-products.h. */
export const TILED_HEADS: readonly number[] = [8, 16, 32];

/** Rows of a score and their query heads in whole tiles. Hashing reads its projections again for each further set of a row's vectors. */
export const rowSizes = (operation: ScoreOperation): Sizes => {
  const { rows, heads, call } = operation;
  const sets = call?.kernel === 'lsh-hash' ? Math.ceil((call.counts.count ?? 1) / HASHED_AT_ONCE) : 1;
  return {
    ...(rows === undefined ? {} : { rows: rows * sets }),
    ...(heads === undefined
      ? {}
      : {
          queryRows: looksUp(operation) ? heads : (TILED_HEADS.find((most) => heads <= most) ?? heads),
        }),
  };
};

const wholeAttendSizes = (operation: AttendOperation, tiling: Tiling): Sizes => {
  const { coded = [], readBytes, sequences, kvHeads, contextTokens } = operation;
  const bytes = readBytes.hbm ?? 0;
  const isCoded = coded.length > 0;
  const tokens = isCoded ? contextTokens : bytes / rawTokenBytes(operation) / (sequences * kvHeads);
  return attendSizes(operation, { bytes, tokens, isCoded }, tiling);
};

const onlySizes = ([first, second]: readonly Gemm[]): Sizes =>
  first !== undefined && second === undefined ? gemmSizes(first) : {};

/** Parts whose loads are on their way at once: kernels/cuda/merge.cu. */
export const MERGED_AT_ONCE = 8;

/** Partial outputs to merge; bytes are those of one part of all rows, turns those of parts that are loaded at once. */
export const mergeSizes = ({ bytes, parts }: MergeOperation): Sizes => ({
  ...streamingSizes({ readBytes: bytes / parts, writeBytes: 0, flops: 0, kernels: 1 }),
  parts,
  turns: Math.ceil(parts / MERGED_AT_ONCE),
});

/** Rows to select from; `chosenOf` = candidates for one that is chosen. */
export const selectSizes = (
  operation: Pick<SelectOperation, 'rows' | 'of' | 'k' | 'keys'>,
  { selectClusters }: Tiling,
): Sizes => {
  const { rows, of, k } = operation;
  const chosenOf = of / Math.max(1, k);
  if (selectClusters !== null) {
    const blocks = selectBlocks(operation, selectClusters);
    return { rows, chosenOf, way: blocks.way, slice: blocks.slice };
  }
  return { rows, candidates: of, chosenOf };
};

/** Sizes of one operation; those of a product where it is a single kernel. */
export const sizesOf = (operation: Operation, tiling: Tiling): Sizes => {
  switch (operation.kind) {
    case 'attend':
      if (operation.where === 'cpu') return hostSizes(hostAttendWork(operation));
      return wholeAttendSizes(operation, tiling);
    case 'dense':
      return onlySizes(operation.gemms.flatMap((gemm) => tiledProducts(gemm, tiling.tokenTiles)));
    case 'select':
      return selectSizes(operation, tiling);
    case 'fetch':
    case 'spill':
      return { rows: operation.rows, rowBytes: operation.rowBytes };
    case 'score': {
      if (operation.where === 'cpu') return hostSizes(hostScoreWork(operation));
      const { readBytes, writeBytes, flops, matrixFlops } = operation;
      const streaming = streamingSizes({
        readBytes: readBytes.hbm ?? 0,
        writeBytes: writeBytes.hbm ?? 0,
        flops,
        matrixFlops,
        // A kernel of our own does all of it at once, as its cost says.
        kernels: operation.call === undefined ? operation.kernels : 1,
      });
      const turns = rebuildTurns(operation, tiling)?.turns ?? workTurns(operation, tiling);
      return {
        ...streaming,
        ...rowSizes(operation),
        ...(turns === undefined ? {} : { turns }),
      };
    }
    case 'append':
      return streamingSizes({ readBytes: 0, writeBytes: operation.bytes, flops: 0, kernels: 1 });
    case 'merge':
      return mergeSizes(operation);
    case 'encode':
    case 'decode': {
      const { inBytes, outBytes, flops } = operation;
      return streamingSizes({ readBytes: inBytes, writeBytes: outBytes, flops, kernels: 1 });
    }
    case 'wait':
      return {};
    default: {
      const never: never = operation;
      return never;
    }
  }
};
