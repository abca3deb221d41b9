/** Random pools of pages for the cases of kernel calls: the same pages raw and coded, in shuffled order. */
import { distinct } from './calls/random-rows.ts';
import type { KernelCase } from './calls.ts';
import { decodePage, encodePage, FORMATS, type Format, formatOf, pageStrideOf } from './formats.ts';
import type { Random } from './random.ts';

/** A pool of normal numbers; what lies between pages is poison. */
export const drawPool = (
  random: Random,
  format: Format,
  headDim: number,
  pageTokens: number,
  pages: number,
): Uint8Array => {
  const stride = pageStrideOf(format, headDim, pageTokens);
  const pool = new Uint8Array(pages * stride).fill(0xff);
  const numbers = new Float64Array(2 * pageTokens * headDim);
  for (let page = 0; page < pages; page++) {
    for (let i = 0; i < numbers.length; i++) numbers[i] = random.normal();
    pool.set(encodePage(numbers, format, headDim, pageTokens), page * stride);
  }
  return pool;
};

/** A pool of raw pages, and the same coded. */
export const drawPages = (random: Random) => {
  const codes = (Object.keys(FORMATS) as (keyof typeof FORMATS)[]).filter(
    (name) => FORMATS[name].element === 'code',
  );
  const name = random.among(codes);
  const format: Format = FORMATS[name];
  const rawFormat = random.integer(0, 1);
  const headDim = random.among([64, 128]);
  const pageTokens = random.among([1, 5, 16, 32, 64]);
  const pages = random.integer(1, 4);
  const raw = drawPool(random, formatOf(rawFormat), headDim, pageTokens, pages);
  const rawStride = raw.length / pages;
  const codedStride = pageStrideOf(format, headDim, pageTokens);
  const coded = new Uint8Array(pages * codedStride).fill(0xff);
  for (let page = 0; page < pages; page++) {
    const numbers = decodePage(
      raw.slice(page * rawStride, (page + 1) * rawStride),
      formatOf(rawFormat),
      headDim,
      pageTokens,
    );
    coded.set(encodePage(numbers, format, headDim, pageTokens), page * codedStride);
  }
  const listed = random.integer(0, 1) === 0;
  const list = (): KernelCase['buffers'][string] => ({
    tier: 'hbm',
    data: new Uint8Array(distinct(random, pages, pages).buffer),
  });
  return {
    label: `${name} headDim ${headDim} pageTokens ${pageTokens} pages ${pages} raw ${rawFormat}`,
    ints: { pages, headDim, pageTokens, format: format.id, rawFormat, rawStride, codedStride },
    raw,
    coded,
    rawBytes: pages * rawStride,
    codedBytes: pages * codedStride,
    /** Buffers of two page lists, or none. */
    lists: (first: string, second: string): KernelCase['buffers'] =>
      listed ? { [first]: list(), [second]: list() } : {},
  };
};
