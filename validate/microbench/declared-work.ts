/**
 * Declared work by the kernel that does it, bound as a program's is: each kernel under the name of its own law. Some are two
 * kernels, one after the other.
 */
import type { Work } from '../../sim/policy/policy.ts';
import type { ScoreOperation } from '../../sim/program/operation.ts';
import { bindKernel } from '../execute/bind-index.ts';
import { Binding } from '../execute/binding.ts';
import { LOGITS } from '../execute/kernels/kernel-use.ts';
import { bytes, groupWorks, type Rows, usual, works, world, worldOf } from './declared-kinds.ts';
import { type Bounds, bytesBetween, type Microbench, passesFor, type Site } from './microbench.ts';

/** Of a small model, of one sequence and of several. */
const ROWS: readonly Rows[] = [
  { ...usual, kvHeads: 4, batch: 1 },
  { ...usual, kvHeads: 8, batch: 1 },
  { ...usual, kvHeads: 8, batch: 8 },
  { ...usual, kvHeads: 8, batch: 32 },
];
/** Of models with other groups: none, odd ones of narrow heads, those of large models, few KV heads, a single one. */
const GROUPS: readonly Rows[] = [
  { kvHeads: 32, groupSize: 1, headDim: 128, batch: 1 },
  { kvHeads: 2, groupSize: 7, headDim: 64, batch: 3 },
  { kvHeads: 8, groupSize: 8, headDim: 128, batch: 2 },
  { kvHeads: 2, groupSize: 16, headDim: 128, batch: 1 },
  { kvHeads: 2, groupSize: 16, headDim: 128, batch: 12 },
  { kvHeads: 1, groupSize: 32, headDim: 128, batch: 2 },
];

/** Bytes that a site may read, and so that its tables may have. */
const MOST_BYTES = 2 ** 28;
const operationOf = (work: Work, { kvHeads, groupSize, batch }: Rows, layer: number): ScoreOperation => {
  const rows = batch * kvHeads;
  return {
    kind: 'score',
    index: work.index,
    readBytes: bytes((work.readBytes.hbm ?? 0) * rows + (work.weightBytes ?? 0)),
    writeBytes: bytes((work.writeBytes?.hbm ?? 0) * rows),
    flops: work.flops * rows,
    ...(work.matrixFlops === undefined ? {} : { matrixFlops: work.matrixFlops * rows }),
    kernels: work.kernels,
    rows,
    heads: groupSize,
    where: 'gpu',
    ...(work.call === undefined ? {} : { call: work.call }),
    layer,
    stream: 'compute',
    after: [],
  };
};

/**
 * What these read has been left alone since the last step, and is so little that a site's passes would find it in the
 * second-level cache: caches are emptied first. (WG-KV's ring: 1.6 us in a site, 2.9 in a step of an H100.)
 */
const COLD = ['gate', 'ring-to-page'];
const MOST_PASSES = 32;

const siteOf = (bounds: Bounds, work: Work, rows: Rows): Site => {
  const { kvHeads, groupSize, batch } = rows;
  const operation = operationOf(work, rows, 0);
  const { kernel, counts: sizes, shape } = work.call ?? { kernel: '', counts: {} };
  const dimensions = worldOf(rows);
  const isUsual = groupSize === usual.groupSize && rows.headDim === usual.headDim;
  const isCold = bounds.backend === 'cuda' && COLD.includes(kernel);
  const touched = (operation.readBytes.hbm ?? 0) + (operation.writeBytes.hbm ?? 0);
  const passes = isCold ? MOST_PASSES : passesFor(touched, bounds, MOST_PASSES);
  return {
    law: `kernel/${kernel}`,
    id: [
      `batch ${batch}`,
      ...(kvHeads === world.kvHeads ? [] : [`heads ${kvHeads}`]),
      ...(isUsual ? [] : [`group ${groupSize} x ${rows.headDim}`]),
      ...Object.entries({ ...sizes, ...shape }).map(([name, x]) => `${name} ${x}`),
    ].join(' '),
    operations: [operation],
    passes,
    options: { graph: true, ...(isCold ? { flushBytes: bytesBetween(bounds) } : {}) },
    build: (layout) => {
      const operations = Array.from({ length: passes }, (_, pass) => operationOf(work, rows, pass));
      const binding = new Binding(operations, layout);
      operations.forEach((one, at) => {
        binding.begin(at);
        // What attention leaves for it.
        if (kernel === 'observed-logits') {
          const bytes = 4 * rows.batch * dimensions.heads * Math.round(sizes.tokens);
          binding.leave(LOGITS, layout.place('scores', bytes), bytes);
        }
        bindKernel(binding, { dimensions, batch }, one, false);
        binding.end();
      });
      return binding.calls;
    },
  };
};

export const microbench = {
  name: 'kernel/declared',
  number: 10,
  title: 'declared work by its own kernels',
  kernels: [
    'dot-score',
    'gemm',
    'near-count',
    'reduce-scores',
    'preset',
    'softmax-mass',
    'pq-score',
    'pq-passes',
    'paris-tiers',
    'paris-collide',
    'paris-rerank',
    'lsh-hash',
    'gate',
    'ring-to-page',
    'delta-rebuild',
    'low-rank-rebuild',
    'copy',
    'gather',
    'scatter',
  ],
  sites: (bounds) =>
    [
      ...ROWS.flatMap((rows) => works(worldOf(rows)).map((work) => siteOf(bounds, work, rows))),
      ...GROUPS.flatMap((rows) => groupWorks(worldOf(rows)).map((work) => siteOf(bounds, work, rows))),
    ].filter(
      ({ operations: [operation] }) =>
        operation.kind === 'score' &&
        (operation.readBytes.hbm ?? 0) <= Math.min(bounds.hbmBytes / 16, MOST_BYTES),
    ),
} satisfies Microbench;
