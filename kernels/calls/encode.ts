/**
 * Codes pages: page i of the call reads page sourcePages[i] of source (raw pages, `sourceFormat`) and writes page
 * targetPages[i] of target in `format` (numbers of formats.ts); page lists are u32, absent = 0, 1, 2 ...
 * Coded are keys and values (halves 0), keys alone (1) or values alone (2) of tokens [from, to) of each page, to 0 = all;
 * `from` begins a group. Scales of a group come from its extremes and are rounded to half before codes are, as the codecs
 * of sim/policy do.
 */
import type { KernelSpec } from '../calls.ts';
import { u32View } from '../floats.ts';
import { copyTokens, decodePage, encodePage, formatOf, layoutOf } from '../formats.ts';
import { drawPages } from '../random-pages.ts';

export const call = {
  name: 'encode',
  refs: ['source', 'target', 'sourcePages', 'targetPages'],
  writes: ['target'],
  ints: [
    'pages',
    'headDim',
    'pageTokens',
    'sourceFormat',
    'format',
    'sourceStride',
    'targetStride',
    'halves',
    'from',
    'to',
  ],
  reals: [],
  optional: ['sourcePages', 'targetPages'],
  extents: ({ pages }) => ({ sourcePages: 4 * pages, targetPages: 4 * pages }),
  reference({ ints, bytes, has }) {
    const { pages, headDim, pageTokens, sourceStride, targetStride, halves, from } = ints;
    const source = formatOf(ints.sourceFormat);
    const format = formatOf(ints.format);
    const tokens = (ints.to === 0 ? pageTokens : ints.to) - from;
    const [size, codedSize] = [source, format].map((of) => layoutOf(of, headDim, pageTokens).bytes);
    const list = (ref: string): Uint32Array | undefined => (has(ref) ? u32View(bytes(ref)) : undefined);
    const sourcePages = list('sourcePages');
    const targetPages = list('targetPages');
    for (let i = 0; i < pages; i++) {
      const start = (sourcePages?.[i] ?? i) * sourceStride;
      const numbers = decodePage(bytes('source').slice(start, start + size), source, headDim, pageTokens);
      const own = [0, pageTokens].flatMap((half) => [
        ...numbers.subarray((half + from) * headDim, (half + from + tokens) * headDim),
      ]);
      const coded = encodePage(Float64Array.from(own), format, headDim, tokens);
      const at = (targetPages?.[i] ?? i) * targetStride;
      const page = bytes('target').subarray(at, at + codedSize);
      [1, 2].forEach((half) => {
        if (halves === 0 || halves === half)
          copyTokens(
            { page: coded, pageTokens: tokens },
            { page, pageTokens, from },
            format,
            headDim,
            half === 2,
          );
      });
    }
  },
  randomCase(random) {
    const drawn = drawPages(random);
    const { ints, lists, raw, codedBytes } = drawn;
    const { groupTokens } = formatOf(ints.format).keys;
    const group = groupTokens === Infinity ? ints.pageTokens : groupTokens;
    const from = random.among([0, 0, group * random.integer(0, Math.ceil(ints.pageTokens / group) - 1)]);
    return {
      label: `encode ${drawn.label}`,
      buffers: {
        source: { tier: 'hbm', data: raw },
        target: { tier: 'hbm', data: codedBytes },
        ...lists('sourcePages', 'targetPages'),
      },
      ints: {
        pages: ints.pages,
        headDim: ints.headDim,
        pageTokens: ints.pageTokens,
        sourceFormat: ints.rawFormat,
        format: ints.format,
        sourceStride: ints.rawStride,
        targetStride: ints.codedStride,
        halves: random.among([0, 0, 1, 2]),
        from,
        to: random.among([0, random.integer(from + 1, ints.pageTokens)]),
      },
      // A code on the boundary of two, or a scale of two halves, may fall either way.
      outputs: [{ ref: 'target', bytes: codedBytes, type: 'u8', tolerance: Math.max(2e-3, 2 / codedBytes) }],
    };
  },
} satisfies KernelSpec;
