/**
 * The stand-in for declared work that has no kernel of its own: reads readBytes, writes writeBytes, spends `flops` (two a
 * fused multiply-add) on the vector units and matrixFlops on the matrix units, in `launches` equal launches. A buffer that
 * is smaller than the bytes is gone through again from its start. Word i written is i times 2654435761 mod 2^32, counted
 * over all launches. `sum` (u32, optional) has the sum of all words read added to it mod 2^32, so that no read can be left
 * out. Bytes are rounded down to words of 4; read and write may lie in any tier that the kernel can address.
 */
import type { KernelSpec } from '../calls.ts';
import { u32View } from '../floats.ts';
import { u32Bytes } from '../group-scores.ts';

export const call = {
  name: 'work',
  refs: ['read', 'write', 'sum'],
  ints: ['readBytes', 'writeBytes', 'flops', 'matrixFlops', 'launches'],
  reals: [],
  optional: ['read', 'write', 'sum'],
  reference({ ints: { readBytes, writeBytes }, bytes, has }) {
    if (readBytes >= 4) {
      const read = u32View(bytes('read'));
      let sum = 0;
      for (let i = 0; i < Math.floor(readBytes / 4); i++) sum = (sum + read[i % read.length]) >>> 0;
      if (has('sum')) u32View(bytes('sum'))[0] += sum;
    }
    if (writeBytes >= 4) {
      const write = u32View(bytes('write'));
      for (let i = 0; i < Math.floor(writeBytes / 4); i++)
        write[i % write.length] = Math.imul(i, 2_654_435_761);
    }
  },
  randomCase(random) {
    const readBytes = 4 * random.integer(0, 3000);
    const writeBytes = 4 * random.integer(0, 3000);
    // The same buffer again only for reads: which of several writes of a word is the last is left open.
    const buffer = Math.max(4, random.integer(0, 1) === 0 ? readBytes : 4 * random.integer(1, 700));
    const write = Math.max(4, writeBytes);
    return {
      label: `work read ${readBytes} of ${buffer} write ${writeBytes}`,
      buffers: {
        read: {
          tier: 'hbm',
          data: u32Bytes(Uint32Array.from({ length: buffer / 4 }, () => random.uint32())),
        },
        write: { tier: 'hbm', data: write },
        sum: { tier: 'hbm', data: u32Bytes([random.uint32()]) },
      },
      ints: {
        readBytes,
        writeBytes,
        flops: random.integer(0, 100_000),
        matrixFlops: random.integer(0, 100_000),
        launches: random.integer(1, 3),
      },
      outputs: [
        { ref: 'sum', bytes: 4, type: 'u32', tolerance: 0 },
        { ref: 'write', bytes: write, type: 'u32', tolerance: 0 },
      ],
    };
  },
} satisfies KernelSpec;
