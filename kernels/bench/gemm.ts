/** Projections of a decode step: the weights' bytes are the floor until there are tokens enough to be bound by flops. */
import type { Backend } from '../backend.ts';
import { callOf, type KernelBench, rotations, type Site } from './site.ts';

const siteOf = (backend: Backend, m: number, n: number, k: number): Site => {
  const bytes = 2 * n * k;
  return {
    label: `m ${m} n ${n} k ${k}`,
    bytes,
    footprint: bytes * rotations(backend, bytes) + 2 ** 24,
    async build(memory) {
      const x = await memory.fill(2 * m * k, 'normal-bf16');
      const out = await memory.fill(2 * m * n, 'poison');
      const calls = [];
      for (let turn = 0; turn < rotations(backend, bytes); turn++) {
        const weights = await memory.fill(bytes, 'normal-bf16');
        calls.push(callOf('gemm', { x, weights, out }, { m, n, k, outType: 1, units: 0 }));
      }
      return calls;
    },
  };
};

/** Of Llama 3.1 8B: k and v, q and o, gate and up, down; of Qwen 2.5 0.5B: q and o. */
const MATRICES = [
  [1024, 4096],
  [4096, 4096],
  [28_672, 4096],
  [4096, 14_336],
  [896, 896],
];

export const bench = {
  kernel: 'gemm',
  sites: (backend) => [1, 16, 64].flatMap((m) => MATRICES.map(([n, k]) => siteOf(backend, m, n, k))),
} satisfies KernelBench;
