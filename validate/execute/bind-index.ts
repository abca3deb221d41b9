/**
 * Index work as calls: scoring by the kernels that a policy's declared work names; everything else as a stand-in of the
 * same bytes, flops and launches, which is counted. Selections take the scores that were left for them.
 */
import type { ScoreOperation, SelectOperation } from '../../sim/program/operation.ts';
import type { Binding } from './binding.ts';
import { KERNEL_BINDERS } from './kernels/kernel-binders.ts';
import { CANDIDATES, COUNTS, SCORES } from './kernels/kernel-use.ts';
import type { Workload } from './workload.ts';

type Shape = Pick<Workload['dimensions'], 'heads' | 'kvHeads' | 'headDim'>;

/** Binds an operation by the kernel that it names; false = there is none, or its sizes are not those of the kernel. */
export const bindKernel = (
  binding: Binding,
  { dimensions, batch }: { readonly dimensions: Shape; readonly batch: number },
  { call, where }: ScoreOperation,
  perQuery: boolean,
): boolean => {
  if (call === undefined || !Object.hasOwn(KERNEL_BINDERS, call.kernel)) return false;
  const { heads, kvHeads, headDim } = dimensions;
  const rows = kvHeads * batch;
  const bytes = KERNEL_BINDERS[call.kernel].bind({
    binding,
    rows,
    batch,
    kvHeads,
    group: heads / kvHeads,
    headDim,
    perQuery,
    call,
  });
  if (bytes === null) return false;
  binding.touch(where === 'cpu' ? 'dram' : 'hbm', bytes.read + bytes.write);
  return true;
};

export const bindScore = (
  binding: Binding,
  workload: Workload,
  operation: ScoreOperation,
  perQuery: boolean,
): void => {
  if (bindKernel(binding, workload, operation, perQuery)) return;
  binding.standIn(operation.index);
  binding.work(operation.where, {
    hbmBytes: operation.readBytes.hbm ?? 0,
    dramBytes: operation.readBytes.dram ?? 0,
    writeBytes: (operation.writeBytes.hbm ?? 0) + (operation.writeBytes.dram ?? 0),
    flops: operation.flops,
    matrixFlops: operation.matrixFlops ?? 0,
    launches: operation.kernels,
  });
};

/** Selects among what the work before it left where it left as much, else among numbers as they come. */
export const bindSelect = (binding: Binding, { rows, of, k, keys }: SelectOperation): void => {
  const { layout } = binding;
  const count = Math.max(1, of);
  const kept = Math.min(count, Math.max(1, k));
  const ids = layout.place('outputs', 4 * rows * kept);
  const counts = keys === 'counts' ? binding.left(COUNTS, 2 * rows * count) : undefined;
  if (counts !== undefined) {
    binding.add('paris-select', {
      refs: { collisions: counts, ids },
      ints: { rows, of: count, k: kept, scoreStride: count, idStride: kept },
    });
    binding.leave(CANDIDATES, ids, 4 * rows * kept);
    return;
  }
  binding.add('topk', {
    refs: { scores: binding.left(SCORES, 4 * rows * count) ?? layout.place('scores', 4 * rows * count), ids },
    ints: { rows, of: count, k: kept, scoreStride: count, mapStride: count, idStride: kept },
  });
};
