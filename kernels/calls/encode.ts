/**
 * Codes pages: page i of the call reads page sourcePages[i] of source (raw pages, `sourceFormat`) and writes page
 * targetPages[i] of target in `format` (numbers of formats.ts); page lists are u32, absent = 0, 1, 2 ...; pages are full.
 * Scales of a group come from its extremes and are rounded to half before codes are, as the codecs of sim/policy do.
 */
import type { KernelSpec } from '../calls.ts';
import { u32View } from '../floats.ts';
import { decodePage, encodePage, formatOf, layoutOf } from '../formats.ts';
import { drawPages } from '../random-pages.ts';

export const call = {
  name: 'encode',
  refs: ['source', 'target', 'sourcePages', 'targetPages'],
  ints: ['pages', 'headDim', 'pageTokens', 'sourceFormat', 'format', 'sourceStride', 'targetStride'],
  reals: [],
  optional: ['sourcePages', 'targetPages'],
  extents: ({ pages }) => ({ sourcePages: 4 * pages, targetPages: 4 * pages }),
  reference({ ints, bytes, has }) {
    const { pages, headDim, pageTokens, sourceStride, targetStride } = ints;
    const from = formatOf(ints.sourceFormat);
    const to = formatOf(ints.format);
    const size = layoutOf(from, headDim, pageTokens).bytes;
    const list = (ref: string): Uint32Array | undefined => (has(ref) ? u32View(bytes(ref)) : undefined);
    const sourcePages = list('sourcePages');
    const targetPages = list('targetPages');
    for (let i = 0; i < pages; i++) {
      const start = (sourcePages?.[i] ?? i) * sourceStride;
      const raw = bytes('source').slice(start, start + size);
      const coded = encodePage(decodePage(raw, from, headDim, pageTokens), to, headDim, pageTokens);
      bytes('target').set(coded, (targetPages?.[i] ?? i) * targetStride);
    }
  },
  randomCase(random) {
    const drawn = drawPages(random);
    const { ints, lists, raw, codedBytes } = drawn;
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
      },
      // A code on the boundary of two, or a scale of two halves, may fall either way.
      outputs: [{ ref: 'target', bytes: codedBytes, type: 'u8', tolerance: 2e-3 }],
    };
  },
} satisfies KernelSpec;
