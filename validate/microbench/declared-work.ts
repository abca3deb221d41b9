/**
 * Declared work by the kernel that does it, bound as a program's is: each kernel under the name of its own law, in the
 * sizes in which policies declare it. Some are two kernels, one after the other.
 */
import { columnWork } from '../../sim/policy/attention-columns.ts';
import { listingWork } from '../../sim/policy/cluster-index.ts';
import { deltaCosts, observedLogits, ownLogits } from '../../sim/policy/deltakv-cost.ts';
import { gateNetwork } from '../../sim/policy/gate-network.ts';
import { rebuildingWork } from '../../sim/policy/landmark-chunks.ts';
import type { Work, World } from '../../sim/policy/policy.ts';
import { rehearsalWork } from '../../sim/policy/rehearsal-work.ts';
import { estimationWork, retrievalWorks } from '../../sim/policy/wave-zones.ts';
import type { ScoreOperation } from '../../sim/program/operation.ts';
import { bindKernel } from '../execute/bind-index.ts';
import { Binding } from '../execute/binding.ts';
import { LOGITS } from '../execute/kernels/kernel-use.ts';
import { type Bounds, bytesBetween, type Microbench, passesFor, powers, type Site } from './microbench.ts';

/** Attention of Llama-3.1-8B. */
const world: World = {
  layers: 32,
  heads: 32,
  kvHeads: 8,
  groupSize: 4,
  headDim: 128,
  kBytesPerToken: 256,
  vBytesPerToken: 256,
  promptTokens: 2 ** 15,
  maxTokens: 2 ** 15,
  fields: new Set(),
};
const { groupSize, headDim, kBytesPerToken, vBytesPerToken } = world;
/** KV heads and sequences: rows of a small model, of one sequence and of several. */
const ROWS = [
  { kvHeads: 4, batch: 1 },
  { kvHeads: 8, batch: 1 },
  { kvHeads: 8, batch: 8 },
  { kvHeads: 8, batch: 32 },
];
type Rows = (typeof ROWS)[number];
/** Bytes that a site may read, and so that its tables may have. */
const MOST_BYTES = 2 ** 28;
/** Sizes are no powers of two, as those of a growing cache hardly ever are. */
const UNEVEN = 17 / 16;

const spread = (from: number, to: number, factor: number): readonly number[] =>
  powers(from * UNEVEN, to * UNEVEN, factor).map(Math.round);

const counts = (from: number, to: number): readonly number[] => spread(from, to, 2);

const bytes = (hbm: number) => ({ hbm });

const dotShares = (count: number): Work => ({
  index: 'landmarks',
  readBytes: bytes(count * kBytesPerToken),
  flops: (2 * headDim + 4) * count * groupSize,
  kernels: 3,
  call: { kernel: 'dot-shares', counts: { count } },
});

const pqShares = (tokens: number): Work => {
  const [subspaces, centroids] = [2, 64];
  return {
    index: 'code-products',
    readBytes: bytes(tokens * subspaces + 4 * centroids * headDim),
    flops: groupSize * (2 * centroids * headDim + subspaces * tokens),
    kernels: 4,
    call: { kernel: 'pq-shares', counts: { tokens }, shape: { subspaces, centroids } },
  };
};

/** As PQCache's authors do it: 64-bit codes of each query head, gathered products and three more passes in 16 bits. */
const pqPasses = (tokens: number): Work => {
  const [subspaces, centroids] = [2, 64];
  const vectors = groupSize * tokens;
  const passed = 2 * vectors * (subspaces + 3);
  return {
    index: 'code-products',
    readBytes: bytes(8 * vectors * subspaces + passed),
    writeBytes: bytes(passed),
    flops: groupSize * (2 * centroids * headDim + subspaces * tokens),
    kernels: 6,
    call: { kernel: 'pq-passes', counts: { tokens }, shape: { subspaces, centroids } },
  };
};

const parisCollide = (tokens: number): Work => ({
  index: 'collisions',
  readBytes: bytes((tokens * headDim) / 8),
  writeBytes: bytes(2 * tokens),
  flops: (tokens * headDim) / 8 + 2 * 256 * headDim,
  kernels: 2,
  call: { kernel: 'paris-collide', counts: { tokens }, shape: { dim: headDim } },
});

const parisRerank = (count: number, decoded: 0 | 1): Work => ({
  index: 'rerank',
  readBytes: bytes(count * (headDim / 2 + headDim / 4)),
  writeBytes: bytes(decoded * count * headDim * 2),
  flops: 2 * count * headDim,
  kernels: 1,
  call: { kernel: 'paris-rerank', counts: { count, tokens: 10 * count }, shape: { dim: headDim, decoded } },
});

const lshHash = (count: number): Work => {
  const [hashes, tables] = [10, 150];
  return {
    index: 'hash-queries',
    readBytes: bytes(count * kBytesPerToken),
    writeBytes: bytes(4 * count * tables),
    flops: count * hashes * tables,
    matrixFlops: 2 * count * headDim * hashes * tables,
    kernels: 3,
    weightBytes: kBytesPerToken * hashes * tables,
    call: { kernel: 'lsh-hash', counts: { count }, shape: { hashes, tables } },
  };
};

const ringToPage = (tokens: number): Work => {
  const moved = bytes(tokens * (kBytesPerToken + vBytesPerToken));
  const call = { kernel: 'ring-to-page', counts: { tokens }, shape: { window: 256 } };
  return { index: 'ring-to-page', readBytes: moved, writeBytes: moved, flops: 0, kernels: 1, call };
};

const concat = (tokens: number): Work => {
  const moved = bytes(tokens * (kBytesPerToken + vBytesPerToken));
  const call = { kernel: 'copy', counts: { bytes: moved.hbm } };
  return { index: 'concat', readBytes: moved, writeBytes: moved, flops: 0, kernels: 2, call };
};

const codesToHeads = (rowBytes: number): Work => ({
  index: 'codes-to-heads',
  readBytes: bytes(rowBytes),
  writeBytes: bytes(groupSize * rowBytes),
  flops: 0,
  kernels: 1,
  call: { kernel: 'gather', counts: { rows: groupSize, distinct: 1 }, shape: { rowBytes } },
});

/** A tile's product goes by the coordinates of a token, what is added to it does not: two dimensions tell them apart. */
const deltaRebuild = (latentDim: number) =>
  deltaCosts({ latentDim, bits: 4, neighbours: 4, hidden: 0 }, world).rebuild;
const gate = gateNetwork(1, 1, world).work;

const executionBuffer = (rows: number): Work => {
  const misses = Math.round(rows / 8);
  const zones = { retrieved: rows, estimated: 0, clusters: rows };
  const works = retrievalWorks(world, zones, { steady: 0, hits: rows - misses, misses, pages: rows });
  const [last] = works.filter(({ call }) => call?.kernel === 'execution-buffer');
  return last;
};

/** A fifth of the columns, as published: their rows begin anywhere in a word. */
const rehearsal = (tokens: number): Work => {
  const columns = Math.floor(0.2 * headDim);
  const weightBytes = 2 * columns * world.heads * world.heads * headDim;
  return rehearsalWork({ tokens, columns, alpha: 5, weightBytes }, world);
};

const works: readonly Work[] = [
  ...counts(64, 2 ** 16).map(dotShares),
  ...counts(1024, 2 ** 17).map((tokens) =>
    columnWork({ columns: 'second-pass', tokens, queries: 1, stateBytes: 4 }, world),
  ),
  ...powers(1024 * UNEVEN, 2 ** 20, 4).map(pqShares),
  ...powers(1024 * UNEVEN, 2 ** 17, 4).map(rehearsal),
  ...powers(1024 * UNEVEN, 2 ** 17, 4).flatMap((tokens) => [
    ownLogits(tokens, world),
    observedLogits(tokens, world),
  ]),
  ...powers(1024 * UNEVEN, 2 ** 20, 4).map(pqPasses),
  ...counts(1024, 2 ** 20).map(parisCollide),
  ...([0, 1] as const).flatMap((decoded) => counts(64, 2 ** 16).map((count) => parisRerank(count, decoded))),
  ...[1, 2, 4, 8].map(lshHash),
  ...[1 / 8, 1 / 2, 1].map(ringToPage),
  ...[1, 2, 4].map(gate),
  ...spread(16, 2 ** 14, 4).map(deltaRebuild(512)),
  ...spread(32, 2 ** 13, 4).map(deltaRebuild(256)),
  ...counts(16, 2 ** 12).map((tokens) => rebuildingWork(tokens, { rank: 160, chunkTokens: 8 }, world)),
  ...counts(16, 2 ** 14).map((estimated) =>
    estimationWork(world, { retrieved: 0, estimated, clusters: estimated }),
  ),
  ...counts(32, 2 ** 13).map(concat),
  ...powers(2 ** 14, 2 ** 20, 4).map(codesToHeads),
  ...counts(64, 2 ** 14).map(executionBuffer),
  ...[true, false].flatMap((inDram) => counts(256, 2 ** 14).map((tokens) => listingWork(tokens, 16, inDram))),
];

const operationOf = (work: Work, { kvHeads, batch }: Rows, layer: number): ScoreOperation => {
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
  const { kvHeads, batch } = rows;
  const operation = operationOf(work, rows, 0);
  const { kernel, counts: sizes, shape } = work.call ?? { kernel: '', counts: {} };
  const dimensions = { ...world, heads: kvHeads * groupSize, kvHeads };
  const isCold = bounds.backend === 'cuda' && COLD.includes(kernel);
  const touched = (operation.readBytes.hbm ?? 0) + (operation.writeBytes.hbm ?? 0);
  const passes = isCold ? MOST_PASSES : passesFor(touched, bounds, MOST_PASSES);
  return {
    law: `kernel/${kernel}`,
    id: [
      `batch ${batch}`,
      ...(kvHeads === world.kvHeads ? [] : [`heads ${kvHeads}`]),
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
    ROWS.flatMap((rows) => works.map((work) => siteOf(bounds, work, rows))).filter(
      ({ operations: [operation] }) =>
        operation.kind === 'score' &&
        (operation.readBytes.hbm ?? 0) <= Math.min(bounds.hbmBytes / 16, MOST_BYTES),
    ),
} satisfies Microbench;
