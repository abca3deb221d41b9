/** Period of empty kernels: as nodes of a graph, and enqueued in a stream. */
import type { Microbench, Site } from './microbench.ts';
import { repeated } from './microbench.ts';

const KERNELS = 400;

const siteOf = (graph: boolean): Site => ({
  id: graph ? 'graph' : 'stream',
  operations: [],
  reading: `hardware.accelerator.launch.${graph ? 'graphNs' : 'streamNs'}`,
  passes: KERNELS,
  fresh: true,
  options: { graph },
  build: () => repeated(KERNELS, () => ({ kernel: 'empty', refs: {}, ints: {} }), 'compute'),
});

export const microbench = {
  name: 'launch',
  number: 1,
  title: 'launching kernels',
  kernels: ['empty'],
  sites: () => [siteOf(true), siteOf(false)],
} satisfies Microbench;
