/**
 * Index work as calls: scoring and selection by the kernels that exist, by the `index` that a policy names in its
 * declared work; everything else as a stand-in of the same bytes, flops and launches, which is counted.
 */
import { REDUCE, scoreRows } from '../../kernels/group-scores.ts';
import type { ScoreOperation, SelectOperation } from '../../sim/program/operation.ts';
import type { Binding } from './binding.ts';
import type { Workload } from './workload.ts';

interface Scored {
  readonly binding: Binding;
  readonly workload: Workload;
  readonly operation: ScoreOperation;
  /** One choice a query head, or one a group: what the selection that follows asks for. */
  readonly perQuery: boolean;
}

/** Binds an operation to its kernel; false = its sizes are not those of the kernel. */
type Scorer = (scored: Scored) => boolean;

/** Rows of attention, and how many index entries of `entryBytes` each reads. */
const entries = ({ workload, operation }: Scored, entryBytes: number) => {
  const { dimensions, batch } = workload;
  const rows = dimensions.kvHeads * batch;
  return { rows, count: Math.round((operation.readBytes.hbm ?? 0) / rows / entryBytes) };
};

const scores = ({ binding, workload }: Scored, rows: number, count: number, reduce: number) =>
  binding.layout.place(
    'scores',
    4 * rows * scoreRows(workload.dimensions.heads / workload.dimensions.kvHeads, reduce) * count,
  );

const reduceOf = ({ perQuery }: Scored): number => (perQuery ? REDUCE.perQuery : REDUCE.max);

/** Channel bounds of pages: two rows a page. */
const bounds: Scorer = (scored) => {
  const { binding, workload } = scored;
  const { headDim, heads, kvHeads } = workload.dimensions;
  const { rows, count } = entries(scored, 4 * headDim);
  if (count < 1) return false;
  const reduce = reduceOf(scored);
  const group = heads / kvHeads;
  binding.add('bounds-score', {
    refs: {
      queries: binding.layout.place('kv', 2 * rows * group * headDim),
      bounds: binding.layout.place('kv', 4 * headDim * rows * count),
      scores: scores(scored, rows, count, reduce),
    },
    ints: { rows, group, pages: count, headDim, boundStride: count, scoreStride: count, reduce },
  });
  binding.touch('hbm', 4 * headDim * rows * count);
  return true;
};

/** Products with one vector an entry: centroids, landmarks. */
const vectors: Scorer = (scored) => {
  const { binding, workload } = scored;
  const { headDim, heads, kvHeads } = workload.dimensions;
  const { rows, count } = entries(scored, 2 * headDim);
  if (count < 1) return false;
  const reduce = reduceOf(scored);
  const group = heads / kvHeads;
  binding.add('dot-score', {
    refs: {
      queries: binding.layout.place('kv', 2 * rows * group * headDim),
      vectors: binding.layout.place('kv', 2 * headDim * rows * count),
      scores: scores(scored, rows, count, reduce),
    },
    ints: {
      rows,
      group,
      count,
      headDim,
      pieceVectors: count,
      pieceStride: 1,
      pieceBytes: 2 * headDim * count,
      scoreStride: count,
      reduce,
    },
    reals: { scale: 1 / Math.sqrt(headDim) },
  });
  binding.touch('hbm', 2 * headDim * rows * count);
  return true;
};

/** By the `index` of declared work. */
const SCORERS: Readonly<Record<string, Scorer>> = {
  'page-bounds': bounds,
  'page-digests': bounds,
  centroids: vectors,
  landmarks: vectors,
  'block-summaries': vectors,
};

export const bindScore = (
  binding: Binding,
  workload: Workload,
  operation: ScoreOperation,
  perQuery: boolean,
): void => {
  const scorer = Object.hasOwn(SCORERS, operation.index) ? SCORERS[operation.index] : undefined;
  const usable = operation.where === 'gpu' && operation.flops > 0 && (operation.readBytes.dram ?? 0) === 0;
  if (usable && scorer?.({ binding, workload, operation, perQuery })) return;
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

export const bindSelect = (binding: Binding, { rows, of, k }: SelectOperation): void => {
  const count = Math.max(1, of);
  binding.add('topk', {
    refs: {
      scores: binding.layout.place('scores', 4 * rows * count),
      ids: binding.layout.place('outputs', 4 * rows * Math.max(1, k)),
    },
    ints: {
      rows,
      of: count,
      k: Math.min(count, Math.max(1, k)),
      scoreStride: count,
      mapStride: count,
      idStride: Math.max(1, k),
    },
  });
};
