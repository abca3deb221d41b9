/**
 * Blocks of declared work without a kernel of its own (kernels/cuda/work.cu): as many threads as its bytes or its arithmetic
 * ask for, whichever is more. Blocks that fill a multiprocessor leave the next kernel's no room to come up beside them.
 */
import type { ScoreOperation } from '../program/operation.ts';
import type { Tiling } from './tiling.ts';

/** Threads of a launch; null where that is not known. */
const threadsOf = (
  { readBytes, writeBytes, flops, matrixFlops = 0, kernels, call }: ScoreOperation,
  { workBlocks }: Tiling,
): number | null => {
  if (workBlocks === null || call !== undefined) return null;
  const bytes = Math.max(readBytes.hbm ?? 0, writeBytes.hbm ?? 0);
  return Math.max(bytes / workBlocks.bytes, (flops + matrixFlops) / workBlocks.flops) / Math.max(1, kernels);
};

/** Bytes of so many threads in all launches; 0 where they are not known. */
export const workThreadBytes = (operation: ScoreOperation, tiling: Tiling): number =>
  (threadsOf(operation, tiling) ?? 0) * (tiling.workBlocks?.bytes ?? 0) * operation.kernels;

/** Blocks of a multiprocessor, as many as it takes at once; undefined where they are not known. */
export const workTurns = (operation: ScoreOperation, tiling: Tiling): number | undefined => {
  const threads = threadsOf(operation, tiling);
  if (threads === null || tiling.workBlocks === null) return undefined;
  const blocks = Math.floor(threads / tiling.workBlocks.threads) + 1;
  return Math.min(tiling.workBlocks.perUnit, Math.ceil(blocks / tiling.sms));
};
