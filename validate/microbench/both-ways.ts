/** Copies in both directions at once, and two in one direction: what the host complex and a copy engine share. */
import { COPY_MODES } from '../../kernels/calls.ts';
import type { Layout } from '../execute/memory.ts';
import { type Microbench, powers, type Site, transferOf } from './microbench.ts';

const siteOf = (bytes: number): Site => ({
  id: `${bytes} each way`,
  operations: [transferOf('h2d', 1, bytes, 'dma'), transferOf('d2h', 1, bytes, 'dma')],
  passes: 1,
  options: { graph: false },
  build: (layout: Layout) => {
    const ints = {
      count: 1,
      bytes,
      sourceStride: bytes,
      targetStride: bytes,
      mode: COPY_MODES.indexOf('dma'),
    };
    const refs = () => ({ host: layout.place('host', bytes), device: layout.place('kv', bytes) });
    const [down, up] = [refs(), refs()];
    return [
      { kernel: 'copy', stream: 'h2d', after: [], refs: { source: down.host, target: down.device }, ints },
      { kernel: 'copy', stream: 'd2h', after: [], refs: { source: up.device, target: up.host }, ints },
    ];
  },
});

export const microbench = {
  name: 'both-ways',
  number: 5,
  title: 'copies in both directions at once',
  kernels: ['copy'],
  sites: ({ dramBytes }) => powers(2 ** 22, Math.min(2 ** 29, dramBytes / 4), 4).map(siteOf),
} satisfies Microbench;
