/**
 * What hashing a prompt and sampling from it take beside attention, per KV head. Infini-AI-Lab/MagicPIG
 * models/attnserver.py (hash on the GPU, sorted codes and then queries' codes to the CPU), library/lsh/lsh.cc.
 */
import type { Work, World } from './policy.ts';

export interface LshOptions {
  readonly hashes: number;
  readonly tables: number;
}

/** Arithmetic of one sampled key's weight on the CPU: arc cosine, two powers, a logarithm. */
const WEIGHT_FLOPS = 60;
const CODE_BYTES = 4;

/** Signs of the products of `rows` vectors with all projections, packed into codes. */
const hashingWork = (
  { hashes, tables }: LshOptions,
  { headDim, kBytesPerToken }: World,
  rows: number,
): Work => ({
  index: 'hash',
  readBytes: { hbm: rows * kBytesPerToken },
  writeBytes: { hbm: rows * CODE_BYTES * tables },
  flops: rows * hashes * tables,
  matrixFlops: 2 * rows * headDim * hashes * tables,
  kernels: 3,
  weightBytes: kBytesPerToken * hashes * tables,
  call: { kernel: 'lsh-hash', counts: { count: rows }, shape: { hashes, tables } },
});

/** Per prompt token: codes, a radix sort of each table on the GPU (16-bit codes, 32-bit ids), and the tables' filling. */
export const hashingWorks = (c: LshOptions, world: World): readonly Work[] => {
  const pairBytes = 6 * c.tables;
  const passes = Math.ceil(c.hashes / 8);
  return [
    hashingWork(c, world, 1),
    {
      index: 'sort-codes',
      readBytes: { hbm: 2 * passes * pairBytes },
      writeBytes: { hbm: passes * pairBytes },
      flops: 0,
      kernels: 3 * passes,
    },
    { index: 'sorted-codes', readBytes: { hbm: pairBytes }, flops: 0, kernels: 2, where: 'd2h' },
    {
      index: 'tables',
      readBytes: { dram: pairBytes },
      writeBytes: { dram: 4 * c.tables },
      flops: 2 * c.tables,
      kernels: 1,
      where: 'cpu',
    },
  ];
};

export interface Sampling {
  /** Query heads that sample, keys that they sample from, listed keys read, and keys sampled, all query heads together. */
  readonly queries: number;
  readonly hashed: number;
  readonly probes: number;
  readonly sampled: number;
}

/** Hashing on the GPU, codes out, and the CPU's look-up: bounds, listed keys, one mark a hashed key and query head. */
export const samplingWorks = (
  c: LshOptions,
  world: World,
  { queries, hashed, probes, sampled }: Sampling,
): readonly Work[] => {
  const codes = queries * c.tables;
  return [
    { ...hashingWork(c, world, queries), index: 'hash-queries' },
    { index: 'hash-codes', readBytes: { hbm: CODE_BYTES * codes }, flops: 0, kernels: 1, where: 'd2h' },
    {
      index: 'tables',
      readBytes: { dram: 8 * codes + 4 * probes + probes },
      writeBytes: { dram: queries * hashed + probes + 4 * sampled },
      flops: 2 * probes + WEIGHT_FLOPS * sampled,
      kernels: 1,
      where: 'cpu',
      call: {
        kernel: 'lsh-match',
        counts: { hashed, probes, sampled },
        shape: { hashes: c.hashes, tables: c.tables, queries },
      },
    },
  ];
};
