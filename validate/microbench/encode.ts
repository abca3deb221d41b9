/** Coding pages of raw KV. */
import { codecSites } from './codec-sites.ts';
import type { Microbench } from './microbench.ts';

export const microbench = {
  name: 'kernel/encode',
  number: 10,
  title: 'coding KV',
  kernels: ['encode'],
  sites: (bounds) => codecSites(bounds, 'encode'),
} satisfies Microbench;
