/** Top-k of small counts, of which a bucket each is kept (ParisKV). */
import { selectOf } from '../../sim/timing/cost-cases.ts';
import { type Bounds, type Microbench, powers, type Site } from './microbench.ts';
import { kernelSite } from './score-sites.ts';

const COUNT_BYTES = 2;
/** One in so many is chosen. */
const CHOSEN = 10;

/** Counts as sums of four small ones, so that most lie in the middle. */
const drawnCounts = (count: number): Uint8Array<ArrayBuffer> => {
  const words = new Uint16Array(2 * Math.ceil(count / 2));
  for (let i = 0; i < words.length; i++) {
    const bits = Math.imul(i + 1, 0x9e3779b1) >>> 8;
    words[i] = (bits & 31) + ((bits >>> 5) & 31) + ((bits >>> 10) & 31) + ((bits >>> 15) & 31);
  }
  return new Uint8Array(words.buffer);
};

/** Those that were made last: all passes of a site have the same ones, in places of their own. */
let last = new Uint8Array();
const countsOf = (count: number): Uint8Array => {
  if (last.length !== 4 * Math.ceil(count / 2)) last = drawnCounts(count);
  return last;
};

const siteOf = (bounds: Bounds, rows: number, of: number): Site => {
  const k = Math.ceil(of / CHOSEN);
  const bytes = rows * of * COUNT_BYTES;
  return kernelSite(
    bounds,
    `${rows} x ${k} of ${of}`,
    { ...selectOf(rows, of, k), keys: 'counts' },
    bytes,
    (layout) => ({
      kernel: 'paris-select',
      refs: {
        collisions: layout.drawn('tables', bytes, () => countsOf(rows * of)),
        ids: layout.place('outputs', rows * k * 4),
      },
      ints: { rows, of, k, scoreStride: of, idStride: k },
    }),
  );
};

export const microbench = {
  name: 'kernel/paris-select',
  number: 10,
  title: 'top-k of small counts',
  kernels: ['paris-select'],
  sites: (bounds) =>
    [4, 8, 16, 32, 128].flatMap((rows) =>
      [...powers(1088, 2 ** 18, 2), ...powers(1536, 2 ** 18, 2)]
        .filter((of) => rows * of * COUNT_BYTES <= bounds.hbmBytes / 64)
        .map((of) => siteOf(bounds, rows, of)),
    ),
} satisfies Microbench;
