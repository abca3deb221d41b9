/** Pages of the kernels are the codecs of the simulator: the same bytes, and the same numbers after decoding. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodePage, encodePage, FORMATS, type Format, layoutOf } from '../kernels/formats.ts';
import { createRandom } from '../kernels/random.ts';
import { catalog } from '../sim/policy/codecs/catalog.generated.ts';

const coded = Object.entries<Format>(FORMATS).filter(([, { element }]) => element === 'code');

const shapes = fc.record({
  headDim: fc.constantFrom(64, 128),
  pageTokens: fc.constantFrom(1, 5, 16, 32, 33, 64),
  seed: fc.nat(1000),
});

describe('a coded page', () => {
  it.each(coded)('of %s has the bytes and numbers of the codec', (name, format) => {
    const codec = Object.values(catalog).find((one) => one.name === name);
    if (codec === undefined) throw new Error(`no codec ${name}`);
    fc.assert(
      fc.property(shapes, ({ headDim, pageTokens, seed }) => {
        const payload = codec.kBytesPerToken(headDim) + codec.vBytesPerToken(headDim);
        expect(layoutOf(format, headDim, pageTokens).bytes).toBe(
          payload * pageTokens + codec.scaleBytes(headDim, pageTokens),
        );
        const random = createRandom(seed);
        const size = pageTokens * headDim;
        const numbers = Float64Array.from({ length: 2 * size }, () => Math.fround(random.normal()));
        const page = encodePage(numbers, format, headDim, pageTokens);
        const got = decodePage(page, format, headDim, pageTokens);
        const [keys, values] = [0, size].map((at) => Float32Array.from(numbers.subarray(at, at + size)));
        const block = codec.encode(keys, values, headDim, 0, pageTokens);
        block.decodeKeys(keys);
        block.decodeValues(values);
        // The codec rounds what it decodes to f32, and its scales have no smallest half (2^-24, times 127 codes).
        const wrong = [...keys, ...values].findIndex(
          (want, at) => !(Math.abs(got[at] - want) < Math.max(2 ** -18, 1e-6 * Math.abs(want))),
        );
        expect(wrong).toBe(-1);
      }),
      { seed: 42, numRuns: 10 },
    );
  });
});
