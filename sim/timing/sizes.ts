/** Sizes of work by which the speed of a kernel was measured: what the axes of a table of utilisation can be. */
import type { SizeName } from '../hardware/utilisation-schema.ts';
import type { AttendOperation, Gemm, Operation } from '../program/operation.ts';

export type Sizes = Readonly<Partial<Record<SizeName, number>>>;

/** A product of `tokens` rows of activations with `bytes` of weights. */
export const gemmSizes = ({ m, weightBytes }: Gemm): Sizes => ({ tokens: m, bytes: weightBytes });

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

/** Attention by one kernel over `bytes` of KV. */
export const attendSizes = ({ sequences, kvHeads, headDim }: AttendOperation, bytes: number): Sizes => ({
  rows: sequences * kvHeads,
  headDim,
  bytes: Math.max(1, bytes),
});

/** Sizes of one operation; those of a product where it is a single one. */
export const sizesOf = (operation: Operation): Sizes => {
  switch (operation.kind) {
    case 'attend':
      return attendSizes(operation, operation.readBytes.hbm ?? 0);
    case 'dense':
      return operation.gemms.length === 1 ? gemmSizes(operation.gemms[0]) : {};
    case 'select':
      return { rows: operation.rows, candidates: operation.of };
    case 'fetch':
    case 'spill':
      return { rows: operation.rows, rowBytes: operation.rowBytes };
    case 'score': {
      const { readBytes, writeBytes, flops, matrixFlops, kernels } = operation;
      return streamingSizes({
        readBytes: readBytes.hbm ?? 0,
        writeBytes: writeBytes.hbm ?? 0,
        flops,
        matrixFlops,
        kernels,
      });
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
