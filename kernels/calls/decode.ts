/**
 * Turns coded pages back: page sourcePages[i] of source (pages in `format`, numbers of formats.ts) becomes page
 * targetPages[i] of target (raw pages, `targetFormat`): offset + code * scale, rounded once. Page lists are u32, absent =
 * 0, 1, 2 ...
 */
import type { KernelSpec } from '../calls.ts';
import { u32View } from '../floats.ts';
import { decodePage, encodePage, formatOf, layoutOf } from '../formats.ts';
import { drawPages } from '../random-pages.ts';

export const call = {
  name: 'decode',
  refs: ['source', 'target', 'sourcePages', 'targetPages'],
  writes: ['target'],
  ints: ['pages', 'headDim', 'pageTokens', 'format', 'targetFormat', 'sourceStride', 'targetStride'],
  reals: [],
  optional: ['sourcePages', 'targetPages'],
  extents: ({ pages }) => ({ sourcePages: 4 * pages, targetPages: 4 * pages }),
  reference({ ints, bytes, has }) {
    const { pages, headDim, pageTokens, sourceStride, targetStride } = ints;
    const from = formatOf(ints.format);
    const to = formatOf(ints.targetFormat);
    const size = layoutOf(from, headDim, pageTokens).bytes;
    const list = (ref: string): Uint32Array | undefined => (has(ref) ? u32View(bytes(ref)) : undefined);
    const sourcePages = list('sourcePages');
    const targetPages = list('targetPages');
    for (let i = 0; i < pages; i++) {
      const start = (sourcePages?.[i] ?? i) * sourceStride;
      const coded = bytes('source').slice(start, start + size);
      const raw = encodePage(decodePage(coded, from, headDim, pageTokens), to, headDim, pageTokens);
      bytes('target').set(raw, (targetPages?.[i] ?? i) * targetStride);
    }
  },
  randomCase(random) {
    const { ints, lists, coded, rawBytes, label } = drawPages(random);
    return {
      label: `decode ${label}`,
      buffers: {
        source: { tier: 'hbm', data: coded },
        target: { tier: 'hbm', data: rawBytes },
        ...lists('sourcePages', 'targetPages'),
      },
      ints: {
        pages: ints.pages,
        headDim: ints.headDim,
        pageTokens: ints.pageTokens,
        format: ints.format,
        targetFormat: ints.rawFormat,
        sourceStride: ints.codedStride,
        targetStride: ints.rawStride,
      },
      outputs: [
        { ref: 'target', bytes: rawBytes, type: ints.rawFormat === 0 ? 'bf16' : 'f16', tolerance: 3e-3 },
      ],
    };
  },
} satisfies KernelSpec;
