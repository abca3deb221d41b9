/**
 * Keeps its stream busy for `ns` nanoseconds of wall time without touching memory: holds a stream while calls are
 * enqueued behind it, and stands for work that has no kernel of its own. The reference, whose times mean nothing, returns.
 */
import type { KernelSpec } from '../calls.ts';

export const call = {
  name: 'spin',
  refs: [],
  writes: [],
  ints: ['ns'],
  reals: [],
  reference: () => {},
  randomCase(random) {
    const ns = random.integer(0, 20_000);
    return { label: `spin ${ns} ns`, buffers: {}, ints: { ns }, outputs: [] };
  },
} satisfies KernelSpec;
