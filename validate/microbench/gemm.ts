/** Projections of a few tokens: the products of decode steps, from one sequence to a batch. */
import { gemmOf } from '../../sim/timing/cost-cases.ts';
import { type Bounds, type Microbench, passesFor, repeated, type Site } from './microbench.ts';

/** [n, k] of Llama-3.1-8B (query-key-value, output, gate-up, down, head) and of Qwen2.5-0.5B's two largest. */
const SHAPES: readonly (readonly [number, number])[] = [
  [6144, 4096],
  [4096, 4096],
  [28_672, 4096],
  [4096, 14_336],
  [128_256, 4096],
  [9728, 896],
  [896, 4864],
  [1024, 1024],
  [2048, 2048],
  [1024, 4096],
];
/** Tokens of those: full tiles, and the fewest that take one; between them times change by 2 %. */
const TOKENS = [1, 8, 9, 16, 17, 32, 33, 64, 65, 128];
/** Shapes between those, of models of 3 to 32 billion weights: how blocks share a product goes by both sides of it. */
const MORE_SHAPES: typeof SHAPES = [
  [3584, 3584],
  [2560, 9728],
  [3072, 8192],
  [5120, 8192],
  [10_240, 5120],
  [16_384, 3072],
  [18_944, 3584],
];
const MORE_TOKENS = [1, 8, 16, 32, 64];
const ELEMENT_BYTES = 2;

const siteOf = (bounds: Bounds, m: number, n: number, k: number): Site => {
  const gemm = gemmOf(m, n, k, ELEMENT_BYTES);
  const passes = passesFor(gemm.weightBytes, bounds, 32);
  return {
    id: `${m} x ${n} x ${k}`,
    operations: [
      {
        kind: 'dense',
        part: 'product',
        gemms: [gemm],
        elementBytes: ELEMENT_BYTES,
        layer: 0,
        stream: 'compute',
        after: [],
      },
    ],
    passes,
    options: { graph: true },
    build: (layout) =>
      repeated(
        passes,
        () => ({
          kernel: 'gemm',
          refs: {
            x: layout.place('kv', m * k * ELEMENT_BYTES),
            weights: layout.place('kv', gemm.weightBytes),
            out: layout.place('outputs', m * n * 2),
          },
          ints: { m, n, k, outType: 1, units: 0 },
        }),
        'compute',
      ),
  };
};

export const microbench = {
  name: 'gemm',
  number: 10,
  title: 'projections of a few tokens',
  kernels: ['gemm'],
  sites: (bounds) =>
    [
      ...SHAPES.flatMap(([n, k]) => TOKENS.map((m) => siteOf(bounds, m, n, k))),
      ...MORE_SHAPES.flatMap(([n, k]) => MORE_TOKENS.map((m) => siteOf(bounds, m, n, k))),
    ].filter(
      ({ operations: [operation] }) =>
        operation.kind === 'dense' && operation.gemms[0].weightBytes <= bounds.hbmBytes / 2,
    ),
} satisfies Microbench;
