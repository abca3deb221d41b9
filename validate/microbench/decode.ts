/** Decoding pages into raw KV. */
import { codecSites } from './codec-sites.ts';
import type { Microbench } from './microbench.ts';

export const microbench = {
  name: 'kernel/decode',
  number: 10,
  title: 'decoding KV',
  kernels: ['decode'],
  sites: (bounds) => codecSites(bounds, 'decode'),
} satisfies Microbench;
