/**
 * The stand-in for declared work that has no kernel of its own: reads readBytes, writes writeBytes, spends `flops` (two a
 * fused multiply-add) on the vector units and matrixFlops on the matrix units, in `launches` equal launches. A buffer that
 * is smaller than the bytes is gone through again from its start. Word i written is i times 2654435761 mod 2^32, counted
 * over all launches. `sum` (u32, optional) has the sum of all words read added to it mod 2^32, so that no read can be left
 * out. Bytes, buffers too, are rounded down to multiples of 16, and refs lie at such; read and write may be in any tier
 * that the kernel can address.
 */
import type { KernelSpec } from '../calls.ts';
import { u32View } from '../floats.ts';
import { u32Bytes } from '../group-scores.ts';

export const call = {
  name: 'work',
  refs: ['read', 'write', 'sum'],
  writes: ['write', 'sum'],
  ints: ['readBytes', 'writeBytes', 'flops', 'matrixFlops', 'launches'],
  reals: [],
  optional: ['read', 'write', 'sum'],
  reference({ ints: { readBytes, writeBytes }, bytes, has }) {
    const wordsOf = (ref: string): Uint32Array => {
      const words = u32View(bytes(ref));
      return words.subarray(0, words.length - (words.length % 4));
    };
    if (readBytes >= 16) {
      const read = wordsOf('read');
      let sum = 0;
      for (let i = 0; i < 4 * Math.floor(readBytes / 16); i++) sum = (sum + read[i % read.length]) >>> 0;
      if (has('sum')) u32View(bytes('sum'))[0] += sum;
    }
    if (writeBytes >= 16) {
      const write = wordsOf('write');
      for (let i = 0; i < 4 * Math.floor(writeBytes / 16); i++)
        write[i % write.length] = Math.imul(i, 2_654_435_761);
    }
  },
  randomCase(random) {
    const readBytes = 4 * random.integer(0, 3000);
    const writeBytes = 4 * random.integer(0, 3000);
    // The same buffer again only for reads: which of several writes of a word is the last is left open.
    const readable = Math.max(16, random.integer(0, 1) === 0 ? readBytes : 4 * random.integer(4, 700));
    const write = Math.max(16, writeBytes);
    return {
      label: `work read ${readBytes} of ${readable} write ${writeBytes}`,
      buffers: {
        read: {
          tier: 'hbm',
          data: u32Bytes(Uint32Array.from({ length: readable / 4 }, () => random.uint32())),
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
