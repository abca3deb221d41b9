/** Sites of kernels that score, code and move bytes in device memory, each under the name of its law. */
import type { Call, Ref } from '../../kernels/calls.ts';
import type { Operation, ScoreOperation } from '../../sim/program/operation.ts';
import type { Layout } from '../execute/memory.ts';
import { type Bounds, bytesBetween, passesFor, repeated, type Site } from './microbench.ts';

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
