/** Pages of the kernels are the codecs of the simulator: the same bytes, and the same numbers after decoding. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { f16Of, ofF16 } from '../kernels/floats.ts';
import { decodePage, encodePage, FORMATS, type Format, layoutOf } from '../kernels/formats.ts';
import { createRandom } from '../kernels/random.ts';
import { catalog } from '../sim/policy/codecs/catalog.generated.ts';

const KEYS_ALONE = '-keys';
const coded = Object.entries<Format>(FORMATS).filter(([, { element }]) => element === 'code');
const whole = coded.filter(([name]) => !name.endsWith(KEYS_ALONE));
const keysAlone = coded.filter(([name]) => name.endsWith(KEYS_ALONE));

const shapes = fc.record({
  headDim: fc.constantFrom(64, 128),
  pageTokens: fc.constantFrom(1, 5, 16, 32, 33, 64),
  seed: fc.nat(1000),
});

describe('a coded page', () => {
  it.each(whole)('of %s has the bytes and numbers of the codec', (name, format) => {
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

  it.each(keysAlone)('of %s has the keys of the whole one, and values as halves', (name, format) => {
    const both = Object.entries<Format>(FORMATS).find(
      ([one]) => one === name.slice(0, -KEYS_ALONE.length),
    )?.[1];
    if (both === undefined) throw new Error(`no format of both halves for ${name}`);
    fc.assert(
      fc.property(shapes, ({ headDim, pageTokens, seed }) => {
        const random = createRandom(seed);
        const size = pageTokens * headDim;
        const numbers = Float64Array.from({ length: 2 * size }, () => Math.fround(random.normal()));
        const pageOf = (one: Format) =>
          decodePage(encodePage(numbers, one, headDim, pageTokens), one, headDim, pageTokens);
        const got = pageOf(format);
        expect([...got.subarray(0, size)]).toEqual([...pageOf(both).subarray(0, size)]);
        expect([...got.subarray(size)]).toEqual([...numbers.subarray(size)].map((x) => ofF16(f16Of(x))));
        const values = layoutOf(both, headDim, pageTokens);
        const coded = values.bytes - values.valueRowBytes * pageTokens - (values.bytes - values.valueScales);
        expect(layoutOf(format, headDim, pageTokens).bytes).toBe(coded + 2 * size);
      }),
      { seed: 42, numRuns: 10 },
    );
  });
});
