/**
 * Channel-wise maxima and minima of the keys of pages, brought up to date after tokens [from, to) of each row were
 * written: pages that begin in them are built, the page that `from` lies in is widened. keys: a pool of pages of pageBytes
 * bytes that begin with bf16 [pageTokens, headDim]; pages u32 [rows, pageStride] says where a row's pages are, absent =
 * page p of row r is r * pageStride + p. bounds bf16 [rows, boundStride, 2, headDim]: maxima, then minima.
 * Source: Quest, arXiv 2406.10774, section 3.3.
 */
import { type KernelSpec, rowsExtent } from '../calls.ts';
import { bf16Of, ofBf16, u16View, u32View } from '../floats.ts';
import { randomBf16, shuffled, u32Bytes } from '../group-scores.ts';

export const call = {
  name: 'page-bounds',
  refs: ['keys', 'pages', 'bounds'],
  writes: ['bounds'],
  ints: ['rows', 'from', 'to', 'pageTokens', 'headDim', 'pageStride', 'pageBytes', 'boundStride'],
  reals: [],
  optional: ['pages'],
  extents: ({ rows, to, pageTokens, headDim, pageStride, boundStride }) => {
    const pages = Math.ceil(to / pageTokens);
    return {
      pages: rowsExtent(rows, 4 * pages, 4 * pageStride),
      bounds: rowsExtent(rows, 4 * headDim * pages, 4 * headDim * boundStride),
    };
  },
  reference({ ints, bytes, has }) {
    const { rows, from, to, pageTokens, headDim, pageStride, pageBytes, boundStride } = ints;
    const keys = u16View(bytes('keys'));
    const pages = has('pages') ? u32View(bytes('pages')) : null;
    const bounds = u16View(bytes('bounds'));
    for (let row = 0; row < rows; row++) {
      for (let token = from; token < to; token++) {
        const page = Math.floor(token / pageTokens);
        const slot = token - page * pageTokens;
        const at = row * pageStride + page;
        const key = ((pages?.[at] ?? at) * pageBytes) / 2 + slot * headDim;
        const most = (row * boundStride + page) * 2 * headDim;
        for (let c = 0; c < headDim; c++) {
          const value = ofBf16(keys[key + c]);
          const least = most + headDim;
          bounds[most + c] = bf16Of(slot === 0 ? value : Math.max(value, ofBf16(bounds[most + c])));
          bounds[least + c] = bf16Of(slot === 0 ? value : Math.min(value, ofBf16(bounds[least + c])));
        }
      }
    }
  },
  randomCase(random) {
    const rows = random.integer(1, 5);
    const pageTokens = random.among([1, 16, 32, random.integer(2, 70)]);
    const headDim = random.among([64, 80, 128, 256]);
    const pageStride = random.integer(1, 9);
    const to = random.integer(1, pageStride * pageTokens);
    const from = random.integer(0, 1) * random.integer(0, to - 1);
    const boundStride = pageStride + random.integer(0, 1);
    // Values and a row of scales lie behind the keys of a page.
    const pageBytes = pageTokens * headDim * 4 + 16 * random.integer(0, 2);
    const pages = { tier: 'hbm', data: u32Bytes(shuffled(random, rows * pageStride)) } as const;
    const boundCount = rows * boundStride * 2 * headDim;
    return {
      label: `page-bounds rows ${rows} tokens ${from}..${to} page ${pageTokens} headDim ${headDim}`,
      buffers: {
        keys: { tier: 'hbm', data: randomBf16(random, (rows * pageStride * pageBytes) / 2) },
        bounds: { tier: 'hbm', data: randomBf16(random, boundCount) },
        ...(random.integer(0, 1) === 1 ? { pages } : {}),
      },
      ints: { rows, from, to, pageTokens, headDim, pageStride, pageBytes, boundStride },
      outputs: [{ ref: 'bounds', bytes: 2 * boundCount, type: 'bf16', tolerance: 0 }],
    };
  },
} satisfies KernelSpec;
