/** Sites of kernels that score, code and move bytes in device memory, each under the name of its law. */
import type { Call, Ref } from '../../kernels/calls.ts';
import type { Operation, ScoreOperation } from '../../sim/program/operation.ts';
import type { Layout } from '../execute/memory.ts';
import { type Bounds, bytesBetween, passesFor, powers, repeated, type Site } from './microbench.ts';

/** A scoring operation of one kernel. */
export const scoreOf = (
  index: string,
  readBytes: number,
  writeBytes: number,
  flops: number,
): ScoreOperation => ({
  kind: 'score',
  index,
  readBytes: { hbm: readBytes },
  writeBytes: writeBytes > 0 ? { hbm: writeBytes } : {},
  flops,
  kernels: 1,
  where: 'gpu',
  layer: 0,
  stream: 'compute',
  after: [],
});

const PASSES = 32;

/** A kernel called on fresh memory in each pass. `isCold`: what it touches is little of that, so caches are emptied first. */
export const kernelSite = (
  bounds: Bounds,
  id: string,
  operation: Operation,
  bytes: number,
  make: (
    layout: Layout,
  ) => Pick<Call, 'kernel' | 'ints' | 'reals'> & { readonly refs: Readonly<Record<string, Ref>> },
  isCold = false,
): Site => {
  const fitting = Math.max(1, Math.min(PASSES, Math.floor(bounds.hbmBytes / Math.max(1, bytes))));
  const passes = isCold ? fitting : passesFor(Math.max(1, bytes), bounds, PASSES);
  return {
    id,
    operations: [operation],
    passes,
    options: { graph: true, ...(isCold ? { flushBytes: bytesBetween(bounds) } : {}) },
    build: (layout) => {
      const all = Array.from({ length: passes }, () => make(layout));
      return repeated(passes, (pass) => all[pass], 'compute');
    },
  };
};

/** Vectors of all rows that a group's query heads are multiplied with. */
export interface GroupSite {
  readonly id: string;
  readonly rows: number;
  readonly group: number;
  readonly headDim: number;
  /** Vectors of a row. */
  readonly count: number;
}

const USUAL = { group: 4, headDim: 128 };
/** Other groups, each on as many rows as a model with it has: kernels take query heads in tiles of 8. */
const GROUPS = [
  { rows: 32, group: 1, headDim: 128 },
  { rows: 2, group: 7, headDim: 64 },
  { rows: 8, group: 8, headDim: 128 },
  { rows: 2, group: 16, headDim: 128 },
  { rows: 24, group: 16, headDim: 128 },
  { rows: 1, group: 32, headDim: 128 },
];

/** Rows and vectors of one group densely, of others sparsely; vectors take so many bytes a channel. */
export const groupSites = (bounds: Bounds, channelBytes: number): readonly GroupSite[] =>
  [
    ...[2, 8, 64].flatMap((rows) => powers(17, 35_000, 2).map((count) => ({ ...USUAL, rows, count }))),
    ...GROUPS.flatMap((shape) => powers(68, 35_000, 8).map((count) => ({ ...shape, count }))),
  ]
    .filter(({ rows, headDim, count }) => rows * count * channelBytes * headDim <= bounds.hbmBytes / 4)
    .map((shape) => {
      const { rows, group, headDim, count } = shape;
      const isUsual = group === USUAL.group && headDim === USUAL.headDim;
      return { ...shape, id: `${rows} x ${count}${isUsual ? '' : ` group ${group} x ${headDim}`}` };
    });
