/** Writing the new tokens' K and V into pages. */
import { type Microbench, scatteredRows } from './microbench.ts';
import { kernelSite } from './score-sites.ts';

const HEAD_DIM = 128;
const PAGE_TOKENS = 16;

export const microbench = {
  name: 'kernel/append',
  number: 10,
  title: 'appending new tokens',
  kernels: ['append'],
  sites: (bounds) =>
    [2, 8, 32, 128, 512].map((rows) => {
      const rowBytes = 2 * HEAD_DIM * 2;
      const pageStride = PAGE_TOKENS * rowBytes;
      const pages = rows;
      return kernelSite(
        bounds,
        `${rows}`,
        { kind: 'append', bytes: rows * rowBytes, layer: 0, stream: 'compute', after: [] },
        pages * pageStride,
        (layout) => ({
          kernel: 'append',
          refs: {
            k: layout.place('kv', (rows * rowBytes) / 2),
            v: layout.place('kv', (rows * rowBytes) / 2),
            pool: layout.place('kv', pages * pageStride),
            slots: layout.table(
              'tables',
              scatteredRows(rows, pages, 1).map((page) => page * PAGE_TOKENS),
            ),
          },
          ints: { rows, headDim: HEAD_DIM, pageTokens: PAGE_TOKENS, pageStride },
        }),
        true,
      );
    }),
} satisfies Microbench;
