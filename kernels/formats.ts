/**
 * Formats of KV pages. A page holds pageTokens tokens of one KV head in one run of bytes: K rows, V rows, then (coded
 * halves) scales of K and scales of V, so that it moves as one row. Coded formats cut K and V into groups as the codecs
 * of the same name do (KIVI, arXiv 2402.02750; FlexGen, arXiv 2303.06865; TTKV, arXiv 2604.19769); formats.h is the twin.
 */
import { bf16Of, f16Of, ofBf16, ofF16, u16View } from './floats.ts';

/** One half of a page. */
interface Half {
  /** 16 = numbers, else bits of a code. */
  readonly bits: number;
  /** Size of a group along tokens and channels; Infinity = all of the page. */
  readonly groupTokens: number;
  readonly groupChannels: number;
  /** Signed codes and no offset. */
  readonly symmetric: boolean;
}

export interface Format {
  /** Number in the `format` argument of calls. */
  readonly id: number;
  readonly element: 'bf16' | 'f16' | 'code';
  readonly keys: Half;
  readonly values: Half;
}

const raw: Half = { bits: 16, groupTokens: 1, groupChannels: 1, symmetric: false };
const perChannel = (bits: number, groupTokens: number): Half => ({
  bits,
  groupTokens,
  groupChannels: 1,
  symmetric: false,
});
const perToken = (bits: number, groupChannels: number): Half => ({
  bits,
  groupTokens: 1,
  groupChannels,
  symmetric: false,
});
const kivi = (id: number, bits: number, group: number): Format => ({
  id,
  element: 'code',
  keys: perChannel(bits, group),
  values: perToken(bits, group),
});

/** By the name of the codec. */
export const FORMATS = {
  bf16: { id: 0, element: 'bf16', keys: raw, values: raw },
  f16: { id: 1, element: 'f16', keys: raw, values: raw },
  int8: kivi(2, 8, 32),
  int4: kivi(3, 4, 32),
  'int4-token': { id: 4, element: 'code', keys: perToken(4, 64), values: perToken(4, 64) },
  k8v4: {
    id: 5,
    element: 'code',
    keys: { bits: 8, groupTokens: Infinity, groupChannels: 1, symmetric: true },
    values: perToken(4, Infinity),
  },
  'int8-g64': kivi(6, 8, 64),
  'int4-g64': kivi(7, 4, 64),
  int2: kivi(8, 2, 32),
  'int2-g64': kivi(9, 2, 64),
  // Keys of tokens whose values wait to be coded (KIVI's residual): values are f16.
  'int2-keys': { id: 10, element: 'code', keys: perChannel(2, 32), values: raw },
} as const satisfies Readonly<Record<string, Format>>;

export type FormatName = keyof typeof FORMATS;

const byId: readonly Format[] = Object.values(FORMATS);

/** The format of a call's `format` argument. Throws RangeError for an unknown one. */
export const formatOf = (id: number): Format => {
  const found = byId.find((format) => format.id === id);
  if (found === undefined) throw new RangeError(`format ${id}: expected 0 to ${byId.length - 1}`);
  return found;
};

const groupsIn = (count: number, size: number): number => (size >= count ? 1 : Math.ceil(count / size));

/** Groups of one half of a page: along tokens, along channels. */
const groupsOf = (half: Half, headDim: number, pageTokens: number): readonly [number, number] => [
  groupsIn(pageTokens, half.groupTokens),
  groupsIn(headDim, half.groupChannels),
];

const scaleBytes = (half: Half, headDim: number, pageTokens: number): number => {
  if (half.bits === 16) return 0;
  const [along, across] = groupsOf(half, headDim, pageTokens);
  return along * across * (half.symmetric ? 2 : 4);
};

/** Where the parts of a page begin, bytes from its start. */
export interface PageLayout {
  readonly keyRowBytes: number;
  readonly valueRowBytes: number;
  readonly values: number;
  readonly keyScales: number;
  readonly valueScales: number;
  /** Bytes of a page: what a codec counts, payload and scales. */
  readonly bytes: number;
}

/** `headDim` is a multiple of 8. */
export const layoutOf = (format: Format, headDim: number, pageTokens: number): PageLayout => {
  const keyRowBytes = (headDim * format.keys.bits) / 8;
  const valueRowBytes = (headDim * format.values.bits) / 8;
  const values = pageTokens * keyRowBytes;
  const keyScales = values + pageTokens * valueRowBytes;
  const valueScales = keyScales + scaleBytes(format.keys, headDim, pageTokens);
  const bytes = valueScales + scaleBytes(format.values, headDim, pageTokens);
  return { keyRowBytes, valueRowBytes, values, keyScales, valueScales, bytes };
};

/** Distance of pages in a pool that kernels read: bytes of a page, rounded up to 16. */
export const pageStrideOf = (format: Format, headDim: number, pageTokens: number): number =>
  Math.ceil(layoutOf(format, headDim, pageTokens).bytes / 16) * 16;

/** Place of a code of 2 or 4 bits among the eight of its channels' word: even channels below, odd ones above. */
const placeOf = (channel: number): number => ((channel & 7) >> 1) + 4 * (channel & 1);

/** Byte of a channel's code in a row, and the code's first bit there. */
const bitsOf = (channel: number, bits: number): readonly [number, number] => {
  if (bits === 8) return [channel, 0];
  const bit = bits * placeOf(channel);
  return [bits * (channel >> 3) + (bit >> 3), bit & 7];
};

const codeAt = (page: Uint8Array, row: number, channel: number, bits: number): number => {
  const [byte, shift] = bitsOf(channel, bits);
  return (page[row + byte] >> shift) & (2 ** bits - 1);
};

const putCode = (page: Uint8Array, row: number, channel: number, bits: number, code: number): void => {
  const [byte, shift] = bitsOf(channel, bits);
  const at = row + byte;
  page[at] = (page[at] & ~((2 ** bits - 1) << shift)) | (code << shift);
};

/** Where the scale of a group stands, in halves from the scales' start; its offset stands `apart` halves on. */
const scalePlace = (
  half: Half,
  headDim: number,
  token: number,
  channel: number,
): readonly [number, number] => {
  // By channel: a row of scales, then a row of offsets for each group of tokens, so that channels stay contiguous.
  if (half.groupTokens > 1) {
    const group = half.groupTokens === Infinity ? 0 : Math.floor(token / half.groupTokens);
    return [group * (half.symmetric ? 1 : 2) * headDim + channel, headDim];
  }
  // By token: scale and offset side by side.
  const across = groupsIn(headDim, half.groupChannels);
  const group = half.groupChannels === Infinity ? 0 : Math.floor(channel / half.groupChannels);
  return [2 * (token * across + group), 1];
};

interface Side {
  readonly half: Half;
  readonly rows: number;
  readonly rowBytes: number;
  readonly scales: number;
}

const sidesOf = (format: Format, headDim: number, pageTokens: number): readonly [Side, Side] => {
  const layout = layoutOf(format, headDim, pageTokens);
  return [
    { half: format.keys, rows: 0, rowBytes: layout.keyRowBytes, scales: layout.keyScales },
    { half: format.values, rows: layout.values, rowBytes: layout.valueRowBytes, scales: layout.valueScales },
  ];
};

/** Numbers of a page, [2, pageTokens, headDim]: K, then V. */
export const decodePage = (
  page: Uint8Array,
  format: Format,
  headDim: number,
  pageTokens: number,
): Float64Array => {
  const out = new Float64Array(2 * pageTokens * headDim);
  const halves = u16View(page.subarray(0, page.length & ~1));
  const number = format.element === 'bf16' ? ofBf16 : ofF16;
  sidesOf(format, headDim, pageTokens).forEach(({ half, rows, rowBytes, scales }, side) => {
    for (let token = 0; token < pageTokens; token++)
      for (let channel = 0; channel < headDim; channel++) {
        const at = (side * pageTokens + token) * headDim + channel;
        const row = rows + token * rowBytes;
        if (half.bits === 16) {
          out[at] = number(halves[row / 2 + channel]);
          continue;
        }
        const [place, apart] = scalePlace(half, headDim, token, channel);
        const scale = ofF16(halves[scales / 2 + place]);
        const code = codeAt(page, row, channel, half.bits);
        out[at] = half.symmetric
          ? ((code << 24) >> 24) * scale
          : ofF16(halves[scales / 2 + place + apart]) + code * scale;
      }
  });
  return out;
};

const encodeSide = (
  page: Uint8Array,
  from: Float64Array,
  side: Side,
  headDim: number,
  pageTokens: number,
) => {
  const { half, rows, rowBytes, scales } = side;
  const { bits, symmetric } = half;
  const halves = new Uint16Array(page.buffer, page.byteOffset, page.length >> 1);
  if (bits === 16) {
    halves.set(Uint16Array.from(from, f16Of), rows / 2);
    return;
  }
  const extremes = new Map<number, [number, number]>();
  const place = (token: number, channel: number) => scalePlace(half, headDim, token, channel);
  const each = (visit: (token: number, channel: number, x: number) => void): void => {
    for (let token = 0; token < pageTokens; token++)
      for (let channel = 0; channel < headDim; channel++)
        visit(token, channel, from[token * headDim + channel]);
  };
  each((token, channel, x) => {
    const [at] = place(token, channel);
    const [least, most] = extremes.get(at) ?? [x, x];
    extremes.set(at, [Math.min(least, x), Math.max(most, x)]);
  });
  const highest = symmetric ? 2 ** (bits - 1) - 1 : 2 ** bits - 1;
  each((token, channel, x) => {
    const [at, apart] = place(token, channel);
    const [least, most] = extremes.get(at) ?? [0, 0];
    const range = symmetric ? Math.max(most, -least) : most - least;
    halves[scales / 2 + at] = f16Of(range / highest);
    if (!symmetric) halves[scales / 2 + at + apart] = f16Of(least);
    const scale = ofF16(halves[scales / 2 + at]);
    const offset = symmetric ? 0 : ofF16(f16Of(least));
    const code = scale === 0 ? 0 : Math.round((x - offset) * (1 / scale));
    const limited = Math.min(highest, Math.max(symmetric ? -highest : 0, code));
    putCode(page, rows + token * rowBytes, channel, bits, limited & 255);
  });
};

/** Copies one half of a coded page into tokens [from, from + tokens) of another; `from` begins a group. */
export const copyTokens = (
  source: { readonly page: Uint8Array; readonly pageTokens: number },
  target: { readonly page: Uint8Array; readonly pageTokens: number; readonly from: number },
  format: Format,
  headDim: number,
  values: boolean,
): void => {
  const [from, to] = [source, target].map(
    ({ pageTokens }) => sidesOf(format, headDim, pageTokens)[values ? 1 : 0],
  );
  const { half, rowBytes } = to;
  const { page, pageTokens } = source;
  target.page.set(
    page.subarray(from.rows, from.rows + pageTokens * rowBytes),
    to.rows + target.from * rowBytes,
  );
  const bytes = scaleBytes(half, headDim, pageTokens);
  target.page.set(
    page.subarray(from.scales, from.scales + bytes),
    to.scales + (target.from === 0 ? 0 : scaleBytes(half, headDim, target.from)),
  );
};

/** Codes numbers [2, pageTokens, headDim] into a page of `layoutOf(...).bytes` bytes. */
export const encodePage = (
  numbers: Float64Array,
  format: Format,
  headDim: number,
  pageTokens: number,
): Uint8Array => {
  const page = new Uint8Array(layoutOf(format, headDim, pageTokens).bytes);
  if (format.element !== 'code') {
    const of = format.element === 'bf16' ? bf16Of : f16Of;
    page.set(new Uint8Array(Uint16Array.from(numbers, of).buffer));
    return page;
  }
  const size = pageTokens * headDim;
  sidesOf(format, headDim, pageTokens).forEach((side, at) => {
    encodeSide(page, numbers.subarray(at * size, (at + 1) * size), side, headDim, pageTokens);
  });
  return page;
};
