/**
 * Bytes that an operation reads from and writes to each tier, and the boundary that it crosses. Both interpreters
 * (the engine and the kernel backends) account with this one function, so predicted and measured bytes agree.
 */
import type { Operation, TierName } from './operation.ts';

export interface OperationBytes {
  readonly read: Partial<Record<TierName, number>>;
  readonly write: Partial<Record<TierName, number>>;
}

const sum = (bytes: Partial<Record<TierName, number>>): number => {
  let total = 0;
  for (const value of Object.values(bytes)) total += value;
  return total;
};

/** Weights that a dense operation streams; activations stay on chip or in L2 and are not counted. */
const weightBytes = (operation: Extract<Operation, { kind: 'dense' }>): number => {
  let total = 0;
  for (const gemm of operation.gemms) total += gemm.weightBytes;
  return total;
};

export const bytesOf = (operation: Operation): OperationBytes => {
  switch (operation.kind) {
    case 'score':
      return { read: operation.readBytes, write: operation.writeBytes };
    case 'fetch':
    case 'spill': {
      const total = operation.rows * operation.rowBytes;
      return { read: { [operation.from]: total }, write: { [operation.to]: total } };
    }
    case 'attend':
      return { read: operation.readBytes, write: {} };
    case 'append':
      return { read: {}, write: { hbm: operation.bytes } };
    case 'encode':
    case 'decode':
      return { read: { hbm: operation.inBytes }, write: { hbm: operation.outBytes } };
    case 'dense':
      return { read: { hbm: weightBytes(operation) }, write: {} };
    case 'select':
    case 'merge':
    case 'wait':
      return { read: {}, write: {} };
    default: {
      const never: never = operation;
      return never;
    }
  }
};

/** Bytes that an operation moves in the sense of a timeline's tip: what it reads, or writes when it reads nothing. */
export const movedBytes = (operation: Operation): number => {
  const { read, write } = bytesOf(operation);
  return Math.max(sum(read), sum(write));
};
