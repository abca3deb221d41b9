/** Does nothing: what a call costs by itself (launch, events). */
import type { KernelSpec } from '../calls.ts';

export const call = {
  name: 'empty',
  refs: [],
  writes: [],
  ints: [],
  reals: [],
  reference: () => {},
  randomCase: () => ({ label: 'empty', buffers: {}, ints: {}, outputs: [] }),
} satisfies KernelSpec;
