/** Pages of non-uniform codes: as many bytes as the codec says, and what is coded decodes to near what it was. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { codec as nuq2 } from '../sim/policy/codecs/nuq2.ts';
import { codec as nuq3 } from '../sim/policy/codecs/nuq3.ts';
import { codec as nuq4 } from '../sim/policy/codecs/nuq4.ts';
import { call } from './calls/nuq-encode.ts';
import { fromBf16 } from './floats.ts';
import { decodeNuqPage, NUQ_PAGE_TOKENS, nuqBook, nuqBookBytes, nuqLayout } from './nuq.ts';
import { createRandom } from './random.ts';

test.each([
  [2, nuq2],
  [3, nuq3],
  [4, nuq4],
])('a page of %i bits takes what its codec says', (bits, codec) => {
  const outliers = Math.round((NUQ_PAGE_TOKENS * 128) / 100);
  const said = codec.kBytesPerToken(128) + codec.vBytesPerToken(128) + codec.scaleBytes(128, 1);
  expect(nuqLayout({ headDim: 128, bits, outliers }).bytes / NUQ_PAGE_TOKENS / said).toBeCloseTo(1, 3);
  expect(nuqBookBytes(128, bits)).toBe(codec.tableBytes?.(128));
});

test('what is coded decodes to within half a step of the levels', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 31 }), (seed) => {
      const { ints, buffers } = call.randomCase(createRandom(seed));
      const { headDim, bits, pageStride } = ints;
      const shape = { headDim, bits, outliers: 2 * NUQ_PAGE_TOKENS };
      const page = new Uint8Array(2 * nuqLayout(shape).stride + pageStride);
      const [source, books] = [buffers.source.data, buffers.books.data];
      if (typeof source === 'number' || typeof books === 'number') throw new Error('drawn as bytes');
      const given: Record<string, Uint8Array> = { source, books, target: page, slots: new Uint8Array(4) };
      call.reference({
        ints: { ...ints, ...shape, rows: 1, count: 1, pageStride: nuqLayout(shape).stride },
        reals: {},
        bytes: (ref) => given[ref],
        has: () => true,
      });
      const book = nuqBook(books, headDim, bits);
      const numbers = decodeNuqPage(page, shape, book);
      const row = fromBf16(source, 2 * headDim);
      // Levels of a case lie within 1.6 / 2^bits of each other and of the ends, in half widths of at most 2 and 4.5.
      for (let c = 0; c < headDim; c++) {
        const isOutlier = Math.abs(row[c] - book.middle[c]) > book.halfWidth[c];
        if (!isOutlier) expect(Math.abs(numbers[c] - row[c])).toBeLessThan((2 * 1.6) / 2 ** bits);
        const value = numbers[NUQ_PAGE_TOKENS * headDim + c];
        expect(Math.abs(value - row[headDim + c])).toBeLessThan((4.5 * 1.6) / 2 ** bits);
      }
    }),
    { seed: 42, numRuns: 40 },
  );
});
