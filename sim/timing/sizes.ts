/** Sizes of work by which the speed of a kernel was measured: what the axes of a table of utilisation can be. */
import type { SizeName } from '../hardware/utilisation-schema.ts';
import type { AttendOperation, Gemm, Operation } from '../program/operation.ts';

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

/** What kernels of a machine take at a time. */
export interface Tiling {
  readonly sms: number;
  readonly tokenTiles: readonly number[];
  /** Tokens of a tile of raw and of coded KV; null = not known. */
  readonly attendTiles: { readonly raw: number; readonly coded: number } | null;
  /** Query rows of a KV head that attention takes at a time, and whether it takes one alone. */
  readonly attendRows: { readonly value: number; readonly alone: boolean };
}

/** Query rows of a tile of tensor cores (m16n8k16). */
export const TENSOR_ROWS: Tiling['attendRows'] = { value: 16, alone: false };

const PAGE_TOKENS = 64;

const commonDivisor = (a: number, b: number): number => (b === 0 ? a : commonDivisor(b, a % b));

/**
 * Rows that a block attends to in turn, at most, where blocks take even stretches of all rows' tokens in whole tiles: 1
 * where each row is that of whole blocks.
 */
const turnsOf = (rows: number, tokens: number, tile: number, sms: number): number => {
  const each = Math.max(1, Math.round(tokens));
  const stretch = Math.ceil((rows * each) / sms / tile) * tile;
  return Math.ceil((stretch - commonDivisor(stretch, each)) / each) + 1;
};

/** Attention by one kernel over `bytes` of KV, `tokens` a row. */
export const attendSizes = (
  { sequences, kvHeads, headDim, pageTokens = PAGE_TOKENS }: AttendOperation,
  { bytes, tokens, isCoded }: { bytes: number; tokens: number; isCoded: boolean },
  { sms, attendTiles }: Tiling,
): Sizes => {
  const rows = sequences * kvHeads;
  const filled = Math.ceil(tokens / pageTokens) * pageTokens;
  const tile = isCoded ? attendTiles?.coded : attendTiles?.raw;
  return {
    rows,
    headDim,
    bytes: Math.max(1, bytes),
    turns: tile === undefined ? 1 : turnsOf(rows, filled, tile, sms),
  };
};

/** Bytes of K and V of a token in one KV head, raw. */
export const rawTokenBytes = ({ headDim }: AttendOperation): number => 4 * headDim;

const wholeAttendSizes = (operation: AttendOperation, tiling: Tiling): Sizes => {
  const { coded = [], readBytes, sequences, kvHeads, contextTokens } = operation;
  const bytes = readBytes.hbm ?? 0;
  const isCoded = coded.length > 0;
  const tokens = isCoded ? contextTokens : bytes / rawTokenBytes(operation) / (sequences * kvHeads);
  return attendSizes(operation, { bytes, tokens, isCoded }, tiling);
};

const onlySizes = ([first, second]: readonly Gemm[]): Sizes =>
  first !== undefined && second === undefined ? gemmSizes(first) : {};

/** Sizes of one operation; those of a product where it is a single kernel. */
export const sizesOf = (operation: Operation, tiling: Tiling): Sizes => {
  switch (operation.kind) {
    case 'attend':
      return wholeAttendSizes(operation, tiling);
    case 'dense':
      return onlySizes(operation.gemms.flatMap((gemm) => tiledProducts(gemm, tiling.tokenTiles)));
    case 'select':
      return { rows: operation.rows, candidates: operation.of };
    case 'fetch':
    case 'spill':
      return { rows: operation.rows, rowBytes: operation.rowBytes };
    case 'score': {
      const { readBytes, writeBytes, flops, matrixFlops, kernels, rows } = operation;
      const streaming = streamingSizes({
        readBytes: readBytes.hbm ?? 0,
        writeBytes: writeBytes.hbm ?? 0,
        flops,
        matrixFlops,
        kernels,
      });
      return rows === undefined ? streaming : { ...streaming, rows };
    }
    case 'append':
      return streamingSizes({ readBytes: 0, writeBytes: operation.bytes, flops: 0, kernels: 1 });
    case 'merge':
      return {
        ...streamingSizes({ readBytes: operation.bytes, writeBytes: 0, flops: 0, kernels: 1 }),
        parts: operation.parts,
      };
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
