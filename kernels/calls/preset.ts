/** One value in every place of a buffer: f32 [count] at out. Logits are cleared so before attention leaves its own. */
import type { KernelSpec } from '../calls.ts';
import { f32View } from '../floats.ts';

export const call = {
  name: 'preset',
  refs: ['out'],
  writes: ['out'],
  ints: ['count'],
  reals: ['value'],
  extents: ({ count }) => ({ out: 4 * count }),
  reference({ ints: { count }, reals: { value }, bytes }) {
    f32View(bytes('out')).fill(value, 0, count);
  },
  randomCase(random) {
    const count = random.among([random.integer(1, 40), random.integer(41, 100_000)]);
    return {
      label: `preset count ${count}`,
      buffers: { out: { tier: 'hbm', data: 4 * count + 8 } },
      ints: { count },
      reals: { value: 1e6 * random.normal() },
      // Not a word beyond.
      outputs: [{ ref: 'out', bytes: 4 * count + 8, type: 'u32', tolerance: 0 }],
    };
  },
} satisfies KernelSpec;
