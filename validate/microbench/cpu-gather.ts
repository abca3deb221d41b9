/** Rows gathered by host threads into pinned memory, then sent in one copy. */
import { type Microbench, powers } from './microbench.ts';
import { hostRows } from './row-sites.ts';

/**
 * Host memory of a layer, and of its rows one in so many: what lies between rows comes along where it is little (lines that
 * the processor fetches by itself), and then rows are packed 10 % slower (H100's host, 17 and 67 MB).
 */
const LAYER_BYTES = 2 ** 26;
const CHOSEN_OF = 8;
const layerBytesOf = (chosenBytes: number, regionBytes: number): number =>
  Math.min(regionBytes, Math.max(LAYER_BYTES, CHOSEN_OF * chosenBytes));

export const microbench = {
  name: 'cpu-gather',
  number: 4,
  title: 'rows gathered by the CPU',
  kernels: ['gather', 'empty'],
  sites: ({ dramBytes }) => {
    const regionBytes = Math.min(2 ** 31, dramBytes / 4);
    // Rows of one and two cache lines cost a thread more than their bytes.
    const scattered = [64, 128, 256, 1024, 4096, 65_536].flatMap((rowBytes) =>
      powers(rowBytes < 256 ? 4096 : 64, 262_144, 8)
        .filter((rows) => rows * rowBytes <= regionBytes / 16)
        .map((rows) => ({
          rows,
          rowBytes,
          regionBytes,
          layerBytes: layerBytesOf(rows * rowBytes, regionBytes),
        })),
    );
    // Half of what a layer holds, as a cache is filled again.
    const dense = [128, 256].flatMap((rowBytes) =>
      [16_384, rowBytes < 256 ? 524_288 : 65_536]
        .map((rows) => ({ rows, rowBytes, regionBytes, layerBytes: 2 * rows * rowBytes }))
        .filter(({ layerBytes }) => layerBytes <= regionBytes / 8),
    );
    return [...scattered, ...dense].map((site) => hostRows(site, 'cpu-gather'));
  },
} satisfies Microbench;
