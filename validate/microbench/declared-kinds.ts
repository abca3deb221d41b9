/** Declared work in the sizes in which policies declare it, each kind under the name of the kernel that does it. */
import { columnWork } from '../../sim/policy/attention-columns.ts';
import { listingWork } from '../../sim/policy/cluster-index.ts';
import { deltaCosts, observedLogits, ownLogits } from '../../sim/policy/deltakv-cost.ts';
import { gateNetwork } from '../../sim/policy/gate-network.ts';
import { rebuildingWork } from '../../sim/policy/landmark-chunks.ts';
import type { Work, World } from '../../sim/policy/policy.ts';
import { rehearsalWork } from '../../sim/policy/rehearsal-work.ts';
import { estimationWork, retrievalWorks } from '../../sim/policy/wave-zones.ts';
import { powers } from './microbench.ts';

/** Attention of Llama-3.1-8B. */
export const world: World = {
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
const { headDim, kBytesPerToken, vBytesPerToken } = world;

/** Heads of a model and sequences: rows that share keys, and query heads of each. */
export interface Rows {
  readonly kvHeads: number;
  readonly groupSize: number;
  readonly headDim: number;
  readonly batch: number;
}
export const usual = { groupSize: world.groupSize, headDim };
export const worldOf = ({ kvHeads, groupSize, headDim }: Rows): World => ({
  ...world,
  heads: kvHeads * groupSize,
  kvHeads,
  groupSize,
  headDim,
  kBytesPerToken: 2 * headDim,
  vBytesPerToken: 2 * headDim,
});
/** Sizes are no powers of two, as those of a growing cache hardly ever are. */
const UNEVEN = 17 / 16;

const spread = (from: number, to: number, factor: number): readonly number[] =>
  powers(from * UNEVEN, to * UNEVEN, factor).map(Math.round);

const counts = (from: number, to: number): readonly number[] => spread(from, to, 2);

export const bytes = (hbm: number) => ({ hbm });

const dotShares = (count: number, { groupSize, headDim, kBytesPerToken }: World): Work => ({
  index: 'landmarks',
  readBytes: bytes(count * kBytesPerToken),
  flops: (2 * headDim + 4) * count * groupSize,
  kernels: 3,
  call: { kernel: 'dot-shares', counts: { count } },
});

const pqShares = (tokens: number, { groupSize, headDim }: World): Work => {
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
const pqPasses = (tokens: number, { groupSize, headDim }: World): Work => {
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

const parisCollide = (tokens: number, { headDim }: World): Work => ({
  index: 'collisions',
  readBytes: bytes((tokens * headDim) / 8),
  writeBytes: bytes(2 * tokens),
  flops: (tokens * headDim) / 8 + 2 * 256 * headDim,
  kernels: 2,
  call: { kernel: 'paris-collide', counts: { tokens }, shape: { dim: headDim } },
});

const parisRerank = (count: number, decoded: 0 | 1, { headDim }: World): Work => ({
  index: 'rerank',
  readBytes: bytes(count * (headDim / 2 + headDim / 4)),
  writeBytes: bytes(decoded * count * headDim * 2),
  flops: 2 * count * headDim,
  kernels: 1,
  call: { kernel: 'paris-rerank', counts: { count, tokens: 10 * count }, shape: { dim: headDim, decoded } },
});

const lshHash = (count: number, { headDim, kBytesPerToken }: World): Work => {
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
  writeBytes: bytes(world.groupSize * rowBytes),
  flops: 0,
  kernels: 1,
  call: { kernel: 'gather', counts: { rows: world.groupSize, distinct: 1 }, shape: { rowBytes } },
});

/** A tile's product goes by the coordinates of a token, what is added to it does not: two dimensions tell them apart. */
const deltaRebuild = (latentDim: number, world: World) =>
  deltaCosts({ latentDim, bits: 4, neighbours: 4, hidden: 0 }, world).rebuild;
/** Hidden units for each channel: as the policy has them, and few, so that weights of other sizes are read. */
const GATE_WIDTHS = [1, 4];
const gate = (width: number, world: World) => gateNetwork(width, 1, world).work;

const executionBuffer = (rows: number): Work => {
  const misses = Math.round(rows / 8);
  const zones = { retrieved: rows, estimated: 0, clusters: rows };
  const works = retrievalWorks(world, zones, { steady: 0, hits: rows - misses, misses, pages: rows });
  const [last] = works.filter(({ call }) => call?.kernel === 'execution-buffer');
  return last;
};

/** A fifth of the columns, as published: their rows begin anywhere in a word. */
const rehearsal = (tokens: number, world: World): Work => {
  const { heads, headDim } = world;
  const columns = Math.floor(0.2 * headDim);
  const weightBytes = 2 * columns * heads * heads * headDim;
  return rehearsalWork({ tokens, columns, alpha: 5, weightBytes }, world);
};

/** Scores that a query head is given for so many keys. */
const columns = (tokens: number, world: World): Work =>
  columnWork({ columns: 'second-pass', tokens, queries: 1, stateBytes: 4 }, world);

/** Sizes of all kernels in one model. */
export const works = (world: World): readonly Work[] => [
  ...counts(64, 2 ** 16).map((count) => dotShares(count, world)),
  ...spread(1024, 2 ** 17, 4).map((tokens) => columns(tokens, world)),
  ...spread(1024, 2 ** 20, 4).map((tokens) => pqShares(tokens, world)),
  ...spread(1024, 2 ** 17, 4).map((tokens) => rehearsal(tokens, world)),
  ...spread(1024, 2 ** 17, 4).flatMap((tokens) => [ownLogits(tokens, world), observedLogits(tokens, world)]),
  ...spread(1024, 2 ** 20, 4).map((tokens) => pqPasses(tokens, world)),
  ...counts(1024, 2 ** 20).map((tokens) => parisCollide(tokens, world)),
  ...spread(64, 2 ** 16, 4).map((count) => parisRerank(count, 0, world)),
  ...counts(64, 2 ** 16).map((count) => parisRerank(count, 1, world)),
  ...[1, 2, 4, 8].map((count) => lshHash(count, world)),
  ...[1 / 8, 1 / 2, 1].map(ringToPage),
  ...GATE_WIDTHS.flatMap((width) => [1, 2, 4].map(gate(width, world))),
  ...spread(16, 2 ** 14, 4).map(deltaRebuild(512, world)),
  ...spread(32, 2 ** 13, 4).map(deltaRebuild(256, world)),
  ...counts(16, 2 ** 12).map((tokens) => rebuildingWork(tokens, { rank: 160, chunkTokens: 8 }, world)),
  ...spread(16, 2 ** 14, 4).map((estimated) =>
    estimationWork(world, { retrieved: 0, estimated, clusters: estimated }),
  ),
  ...spread(32, 2 ** 13, 4).map(concat),
  ...powers(2 ** 14, 2 ** 20, 4).map(codesToHeads),
  ...spread(64, 2 ** 14, 4).map(executionBuffer),
  ...[true, false].flatMap((inDram) => counts(256, 2 ** 14).map((tokens) => listingWork(tokens, 16, inDram))),
];

/** Some sizes of the kernels that know query heads, or how many KV heads there are. */
export const groupWorks = (world: World): readonly Work[] => [
  ...spread(256, 2 ** 16, 16).map((count) => dotShares(count, world)),
  ...spread(1024, 2 ** 17, 16).map((tokens) => columns(tokens, world)),
  // Heads take another tile, or turns: a third of these is left out of fits, and few would be left of a size.
  ...spread(1024, 2 ** 17, 4).flatMap((tokens) => [
    rehearsal(tokens, world),
    ownLogits(tokens, world),
    observedLogits(tokens, world),
  ]),
  ...spread(1024, 2 ** 19, 4).flatMap((tokens) => [pqShares(tokens, world), parisCollide(tokens, world)]),
  ...spread(256, 2 ** 16, 16).map((count) => parisRerank(count, 1, world)),
  lshHash(world.groupSize, world),
  ...GATE_WIDTHS.map((width) => gate(width, world)(1)),
  ...spread(64, 2 ** 13, 8).map(deltaRebuild((world.kvHeads * world.headDim) / 2, world)),
];
