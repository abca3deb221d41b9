/**
 * Pages of KVQuant's non-uniform codes (arXiv 2401.18079; SqueezeAILab/KVQuant, deployment/kvquant): 64 tokens of one KV
 * head. Keys lie by word and token, as the authors' are transposed: u32 [headDim / 32 x bits][64], `bits` words hold the
 * codes of 32 channels, lowest first. Then values by token, [64][headDim x bits / 8] bytes; middle and half width of each
 * token's values, f16 [64][2]; and outliers of keys and of values, each [outliers] of (u16 channel, f16 what the
 * element is above its decoded code; 0 = none). A token has its own places for outliers, as the authors cap them.
 * A head's book: f16 middle [headDim] and half width [headDim] of key channels, levels of keys [2^bits], of values [2^bits].
 */
import { f16Of, ofF16, u16View, u32View } from './floats.ts';

export const NUQ_PAGE_TOKENS = 64;

export interface NuqShape {
  readonly headDim: number;
  readonly bits: number;
  /** Places for outliers of one half of a page. */
  readonly outliers: number;
}

/** Where the parts of a page begin, bytes; `stride` = pages lie that far apart. */
export const nuqLayout = ({ headDim, bits, outliers }: NuqShape) => {
  const values = (NUQ_PAGE_TOKENS * headDim * bits) / 8;
  const ranges = 2 * values;
  const keyOutliers = ranges + 4 * NUQ_PAGE_TOKENS;
  const valueOutliers = keyOutliers + 4 * outliers;
  const bytes = valueOutliers + 4 * outliers;
  return { values, ranges, keyOutliers, valueOutliers, bytes, stride: 16 * Math.ceil(bytes / 16) };
};

export const nuqBookBytes = (headDim: number, bits: number): number => 4 * headDim + 4 * 2 ** bits;

/** First place for outliers of a token; the next token's is its end. */
export const nuqPlace = (token: number, outliers: number): number =>
  Math.floor((token * outliers) / NUQ_PAGE_TOKENS);

export interface NuqBook {
  readonly middle: Float64Array;
  readonly halfWidth: Float64Array;
  readonly keyLevels: Float64Array;
  readonly valueLevels: Float64Array;
}

export const nuqBook = (bytes: Uint8Array, headDim: number, bits: number): NuqBook => {
  const halves = Float64Array.from(u16View(bytes.subarray(0, nuqBookBytes(headDim, bits))), ofF16);
  const levels = 2 ** bits;
  return {
    middle: halves.subarray(0, headDim),
    halfWidth: halves.subarray(headDim, 2 * headDim),
    keyLevels: halves.subarray(2 * headDim, 2 * headDim + levels),
    valueLevels: halves.subarray(2 * headDim + levels),
  };
};

/** Word and first bit of a channel's code in its 32. */
const keyBit = (token: number, channel: number, bits: number): readonly [number, number] => {
  const bit = bits * (channel % 32);
  const word = Math.floor(channel / 32) * bits + (bit >> 5);
  return [word * NUQ_PAGE_TOKENS + token, bit & 31];
};

/** Puts a code into a page of zeros, or reads it. */
export const putKeyCode = (
  words: Uint32Array,
  token: number,
  channel: number,
  bits: number,
  code: number,
): void => {
  const [at, shift] = keyBit(token, channel, bits);
  words[at] |= code << shift;
  if (shift + bits > 32) words[at + NUQ_PAGE_TOKENS] |= code >>> (32 - shift);
};

const keyCode = (words: Uint32Array, token: number, channel: number, bits: number): number => {
  const [at, shift] = keyBit(token, channel, bits);
  const above = shift + bits > 32 ? words[at + NUQ_PAGE_TOKENS] * 2 ** (32 - shift) : 0;
  return ((words[at] >>> shift) + above) & (2 ** bits - 1);
};

/** Value codes: a string of bits a token. */
export const putValueCode = (row: Uint8Array, channel: number, bits: number, code: number): void => {
  const bit = bits * channel;
  row[bit >> 3] |= (code << (bit & 7)) & 255;
  if ((bit & 7) + bits > 8) row[(bit >> 3) + 1] |= code >> (8 - (bit & 7));
};

const valueCode = (row: Uint8Array, channel: number, bits: number): number => {
  const bit = bits * channel;
  return ((row[bit >> 3] | ((row[(bit >> 3) + 1] ?? 0) << 8)) >> (bit & 7)) & (2 ** bits - 1);
};

/** Numbers of a page, [2, 64, headDim]: keys, then values. */
export const decodeNuqPage = (page: Uint8Array, shape: NuqShape, book: NuqBook): Float64Array => {
  const { headDim, bits, outliers } = shape;
  const layout = nuqLayout(shape);
  const words = u32View(page.subarray(0, layout.values));
  const ranges = u16View(page.subarray(layout.ranges, layout.keyOutliers));
  const out = new Float64Array(2 * NUQ_PAGE_TOKENS * headDim);
  const rowBytes = (headDim * bits) / 8;
  for (let token = 0; token < NUQ_PAGE_TOKENS; token++) {
    const row = page.subarray(layout.values + token * rowBytes, layout.values + (token + 1) * rowBytes);
    const [middle, halfWidth] = [ofF16(ranges[2 * token]), ofF16(ranges[2 * token + 1])];
    for (let channel = 0; channel < headDim; channel++) {
      const at = token * headDim + channel;
      const level = book.keyLevels[keyCode(words, token, channel, bits)];
      out[at] = book.middle[channel] + book.halfWidth[channel] * level;
      const value = book.valueLevels[valueCode(row, channel, bits)];
      out[NUQ_PAGE_TOKENS * headDim + at] = middle + halfWidth * value;
    }
  }
  [layout.keyOutliers, layout.valueOutliers].forEach((start, side) => {
    const pairs = u16View(page.subarray(start, start + 4 * outliers));
    for (let token = 0; token < NUQ_PAGE_TOKENS; token++)
      for (let i = nuqPlace(token, outliers); i < nuqPlace(token + 1, outliers); i++) {
        const at = (side * NUQ_PAGE_TOKENS + token) * headDim + (pairs[2 * i] % headDim);
        out[at] += ofF16(pairs[2 * i + 1]);
      }
  });
  return out;
};

/** Index of the nearest level; levels ascend. */
export const nearestLevel = (levels: Float64Array, x: number): number => {
  let best = 0;
  for (let level = 1; level < levels.length; level++)
    if (Math.abs(levels[level] - x) < Math.abs(levels[best] - x)) best = level;
  return best;
};

/** Ascending levels of -1..1 and ranges, as halves. */
export const drawNuqBook = (
  random: { uniform(): number },
  { headDim, bits }: Pick<NuqShape, 'headDim' | 'bits'>,
): Uint8Array => {
  const levels = (): number[] =>
    Array.from({ length: 2 ** bits }, (_, i) => (2 * (i + 0.2 + 0.6 * random.uniform())) / 2 ** bits - 1);
  const numbers = [
    ...Array.from({ length: headDim }, () => random.uniform() - 0.5),
    ...Array.from({ length: headDim }, () => 1 + random.uniform()),
    ...levels(),
    ...levels(),
  ];
  return new Uint8Array(Uint16Array.from(numbers, f16Of).buffer);
};
