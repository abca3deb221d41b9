/**
 * Copies `count` runs of `bytes` bytes: run i goes from source + i * sourceStride to target + i * targetStride. Strides
 * are at least `bytes`. `mode` is a position in COPY_MODES; all modes write the same bytes, they differ in cost: calls
 * of a DMA engine, one batched call (cudaMemcpyBatchAsync, CUDA 12.8), cudaMemcpy2DAsync, or loads and stores.
 */
import { COPY_MODES, type KernelSpec, rowsExtent } from '../calls.ts';
import { randomBytes } from './random-rows.ts';

export const call = {
  name: 'copy',
  refs: ['source', 'target'],
  writes: ['target'],
  ints: ['count', 'bytes', 'sourceStride', 'targetStride', 'mode'],
  reals: [],
  extents: ({ count, bytes, sourceStride, targetStride }) => ({
    source: rowsExtent(count, bytes, sourceStride),
    target: rowsExtent(count, bytes, targetStride),
  }),
  reference({ ints: { count, bytes, sourceStride, targetStride }, bytes: at }) {
    const source = at('source');
    const target = at('target');
    for (let i = 0; i < count; i++)
      target.set(source.subarray(i * sourceStride, i * sourceStride + bytes), i * targetStride);
  },
  randomCase(random) {
    const count = random.integer(1, 33);
    const bytes = random.among([1, 6, 64, 250, 4096, 10_000]);
    const sourceStride = bytes + random.among([0, 0, 2, 64]);
    const targetStride = bytes + random.among([0, 0, 16]);
    const mode = random.integer(0, COPY_MODES.length - 1);
    const size = rowsExtent(count, bytes, targetStride);
    return {
      label: `copy ${count} x ${bytes} bytes, strides ${sourceStride} ${targetStride}, mode ${COPY_MODES[mode]}`,
      buffers: {
        source: {
          tier: random.among(['hbm', 'dram']),
          data: randomBytes(random, rowsExtent(count, bytes, sourceStride)),
        },
        target: { tier: random.among(['hbm', 'dram']), data: size },
      },
      ints: { count, bytes, sourceStride, targetStride, mode },
      outputs: [{ ref: 'target', bytes: size, type: 'u8', tolerance: 0 }],
    };
  },
} satisfies KernelSpec;
