/**
 * Codes tokens into pages of non-uniform codes (nuq.ts): KVQuant's append of keys and values (SqueezeAILab/KVQuant,
 * deployment/kvquant/quant_cuda_kernel.cu, VecQuant4AppendVecKSparse and -VSparse). source bf16 [rows, count, 2, headDim],
 * keys before values; token i of row r takes place slots[r] + i (u32: page x 64 + token) of target; books [rows]. A key
 * that lies outside its channel's range is an outlier, the furthest first, as many as the token has places; of values,
 * those furthest from the token's mean are, and the range is that of the rest. What is an outlier has the nearest code
 * too; its place holds the rest, and 0 where there is none. What a place held before is overwritten.
 */
import type { KernelSpec } from '../calls.ts';
import { f16Of, fromBf16, ofF16, u16View, u32View } from '../floats.ts';
import { randomBf16, u32Bytes } from '../group-scores.ts';
import {
  drawNuqBook,
  NUQ_PAGE_TOKENS,
  type NuqShape,
  nearestLevel,
  nuqBook,
  nuqBookBytes,
  nuqLayout,
  nuqPlace,
  putKeyCode,
  putValueCode,
} from '../nuq.ts';

/** Channels with the largest measure, at most `count`; of equals the first. */
const furthest = (measures: readonly number[], count: number): readonly number[] => {
  const order = measures.map((_, channel) => channel);
  order.sort((a, b) => measures[b] - measures[a] || a - b);
  return order.slice(0, count);
};

/** A copy of the page's keys or values of a token in zeros, so that codes can be put there. */
const clearToken = (page: Uint8Array, token: number, shape: NuqShape): void => {
  const { headDim, bits } = shape;
  const { values } = nuqLayout(shape);
  const words = (headDim * bits) / 32;
  for (let word = 0; word < words; word++)
    page.fill(0, 4 * (word * NUQ_PAGE_TOKENS + token), 4 * (word * NUQ_PAGE_TOKENS + token + 1));
  const rowBytes = (headDim * bits) / 8;
  page.fill(0, values + token * rowBytes, values + (token + 1) * rowBytes);
};

const codeToken = (
  page: Uint8Array,
  token: number,
  shape: NuqShape,
  book: ReturnType<typeof nuqBook>,
  rows: readonly [ArrayLike<number>, ArrayLike<number>],
): void => {
  const { headDim, bits, outliers } = shape;
  const layout = nuqLayout(shape);
  const [from, to] = [nuqPlace(token, outliers), nuqPlace(token + 1, outliers)];
  const [keys, values] = rows.map((row) => Array.from(row));
  clearToken(page, token, shape);
  const halves = u16View(page);
  const words = u32View(page);
  const putOutliers = (
    start: number,
    channels: readonly number[],
    rest: (channel: number) => number,
  ): void => {
    for (let place = from; place < to; place++) {
      const channel = channels[place - from];
      halves[start / 2 + 2 * place] = channel ?? 0;
      halves[start / 2 + 2 * place + 1] = channel === undefined ? 0 : f16Of(rest(channel));
    }
  };
  const normal = (x: number, middle: number, halfWidth: number): number =>
    halfWidth > 0 ? (x - middle) / halfWidth : 0;
  const keyLevels = keys.map((x, c) =>
    nearestLevel(book.keyLevels, normal(x, book.middle[c], book.halfWidth[c])),
  );
  keyLevels.forEach((code, c) => {
    putKeyCode(words, token, c, bits, code);
  });
  const beyond = keys.map((x, c) => Math.abs(x - book.middle[c]) - book.halfWidth[c]);
  const outside = furthest(beyond, to - from).filter((c) => beyond[c] > 0);
  putOutliers(
    layout.keyOutliers,
    outside,
    (c) => keys[c] - (book.middle[c] + book.halfWidth[c] * book.keyLevels[keyLevels[c]]),
  );
  const mean = values.reduce((a, b) => a + b) / headDim;
  const far = furthest(
    values.map((x) => Math.abs(x - mean)),
    to - from,
  );
  const rest = values.filter((_, c) => !far.includes(c));
  const [least, most] = [Math.min(...rest), Math.max(...rest)];
  const [middle, halfWidth] = [f16Of((least + most) / 2), f16Of((most - least) / 2)];
  halves[layout.ranges / 2 + 2 * token] = middle;
  halves[layout.ranges / 2 + 2 * token + 1] = halfWidth;
  const valueLevels = values.map((x) =>
    nearestLevel(book.valueLevels, normal(x, ofF16(middle), ofF16(halfWidth))),
  );
  const row = page.subarray(layout.values + (token * headDim * bits) / 8);
  valueLevels.forEach((code, c) => {
    putValueCode(row, c, bits, code);
  });
  putOutliers(
    layout.valueOutliers,
    far,
    (c) => values[c] - (ofF16(middle) + ofF16(halfWidth) * book.valueLevels[valueLevels[c]]),
  );
};

export const call = {
  name: 'nuq-encode',
  refs: ['source', 'target', 'books', 'slots'],
  writes: ['target'],
  ints: ['rows', 'count', 'headDim', 'bits', 'outliers', 'pageStride'],
  reals: [],
  extents: ({ rows, count, headDim, bits }) => ({
    source: 4 * rows * count * headDim,
    books: rows * nuqBookBytes(headDim, bits),
    slots: 4 * rows,
  }),
  reference({ ints: { rows, count, headDim, bits, outliers, pageStride }, bytes }) {
    const shape = { headDim, bits, outliers };
    const source = fromBf16(bytes('source'), 2 * rows * count * headDim);
    const slots = u32View(bytes('slots'));
    for (let i = 0; i < rows * count; i++) {
      const row = Math.floor(i / count);
      const slot = slots[row] + (i % count);
      const at = Math.floor(slot / NUQ_PAGE_TOKENS) * pageStride;
      const page = bytes('target').slice(at, at + nuqLayout(shape).bytes);
      const book = nuqBook(bytes('books').subarray(row * nuqBookBytes(headDim, bits)), headDim, bits);
      const key = source.subarray(2 * i * headDim, (2 * i + 1) * headDim);
      const value = source.subarray((2 * i + 1) * headDim, (2 * i + 2) * headDim);
      codeToken(page, slot % NUQ_PAGE_TOKENS, shape, book, [key, value]);
      bytes('target').set(page, at);
    }
  },
  randomCase(random) {
    const rows = random.integer(1, 4);
    const count = random.among([1, 1, random.integer(1, 130)]);
    const shape = {
      headDim: random.among([64, 128, 256]),
      bits: random.integer(2, 4),
      outliers: random.integer(0, 150),
    };
    const { headDim, bits } = shape;
    const { stride } = nuqLayout(shape);
    const pagesOfRow = 1 + Math.ceil(count / NUQ_PAGE_TOKENS);
    const slots = Uint32Array.from(
      { length: rows },
      (_, row) => row * pagesOfRow * NUQ_PAGE_TOKENS + random.integer(0, NUQ_PAGE_TOKENS - 1),
    );
    const books = new Uint8Array(rows * nuqBookBytes(headDim, bits));
    for (let row = 0; row < rows; row++)
      books.set(drawNuqBook(random, shape), row * nuqBookBytes(headDim, bits));
    const bytes = rows * pagesOfRow * stride;
    return {
      label: `nuq-encode rows ${rows} x ${count} headDim ${headDim} bits ${bits} outliers ${shape.outliers}`,
      buffers: {
        source: { tier: 'hbm', data: randomBf16(random, 2 * rows * count * headDim) },
        target: { tier: 'hbm', data: bytes },
        books: { tier: 'hbm', data: books },
        slots: { tier: 'hbm', data: u32Bytes(slots) },
      },
      ints: { rows, count, ...shape, pageStride: stride },
      // A number on the boundary of two codes may fall either way.
      outputs: [{ ref: 'target', bytes, type: 'u8', tolerance: Math.max(2e-3, 4 / bytes) }],
    };
  },
} satisfies KernelSpec;
