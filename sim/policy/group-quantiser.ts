/**
 * Uniform integer quantisation of a row-major matrix in groups, each with its own scale: per channel (a group runs along
 * tokens), per token (along channels), or both. Scales and offsets are rounded to half precision, as they are stored.
 * Asymmetric as in KIVI (arXiv 2402.02750, section 3): code = round((x - min) / scale).
 */

export interface Grouping {
  /** 2 to 8 bits a code. */
  readonly bits: number;
  /** Size of a group along tokens and along channels, Infinity = all of a block; the last ones may be smaller. */
  readonly groupTokens: number;
  readonly groupChannels: number;
  /** True stores signed codes around zero and no offset. */
  readonly symmetric?: boolean;
}

export interface QuantisedRows {
  /** Writes the decoded rows, row-major [tokens, channels]. */
  decode(out: Float32Array): void;
}

/** The nearest number with the 11 significant bits of a half (Veltkamp's splitting); exponents are not limited. */
export const roundToHalf = (x: number): number => {
  const spread = Math.fround(8193 * x);
  return Math.fround(spread - Math.fround(spread - Math.fround(x)));
};

/** The nearest number with the 8 significant bits of a bfloat16, in the same way. */
export const roundToBf16 = (x: number): number => {
  const spread = Math.fround(65537 * x);
  return Math.fround(spread - Math.fround(spread - Math.fround(x)));
};

/** Groups of at most `size` among `count`; an infinite size makes one group of all. */
const groupsIn = (count: number, size: number): number => (size >= count ? 1 : Math.ceil(count / size));

/** Bytes of half-precision scales (and offsets) of a block of `tokens` rows. */
export const groupScaleBytes = (grouping: Grouping, channels: number, tokens: number): number => {
  const groups = groupsIn(tokens, grouping.groupTokens) * groupsIn(channels, grouping.groupChannels);
  return groups * (grouping.symmetric ? 2 : 4);
};

/** Scale and offset of each group, from its extremes. */
const scalesOf = (
  { bits, symmetric = false }: Grouping,
  least: Float64Array,
  most: Float64Array,
): { readonly scales: Float64Array; readonly offsets: Float64Array } => {
  const scales = new Float64Array(least.length);
  const offsets = new Float64Array(least.length);
  for (let group = 0; group < least.length; group++) {
    if (symmetric) scales[group] = roundToHalf(Math.max(most[group], -least[group]) / (2 ** (bits - 1) - 1));
    else {
      scales[group] = roundToHalf((most[group] - least[group]) / (2 ** bits - 1));
      offsets[group] = roundToHalf(least[group]);
    }
  }
  return { scales, offsets };
};

/** Quantises rows [from, from + tokens) of a matrix with `channels` columns. */
export const quantiseRows = (
  matrix: Float32Array,
  channels: number,
  from: number,
  tokens: number,
  grouping: Grouping,
): QuantisedRows => {
  const { bits, groupTokens, groupChannels, symmetric = false } = grouping;
  const perRow = groupsIn(channels, groupChannels);
  const groups = groupsIn(tokens, groupTokens) * perRow;
  const column = Int32Array.from({ length: channels }, (_, c) => Math.floor(c / groupChannels));
  const rows = matrix.subarray(from * channels, (from + tokens) * channels);
  const least = new Float64Array(groups).fill(Infinity);
  const most = new Float64Array(groups).fill(-Infinity);
  for (let t = 0, i = 0; t < tokens; t++) {
    const first = Math.floor(t / groupTokens) * perRow;
    for (let c = 0; c < channels; c++, i++) {
      const group = first + column[c];
      const x = rows[i];
      if (x < least[group]) least[group] = x;
      if (x > most[group]) most[group] = x;
    }
  }
  const { scales, offsets } = scalesOf(grouping, least, most);
  const inverses = scales.map((scale) => (scale === 0 ? 0 : 1 / scale));
  const highest = symmetric ? 2 ** (bits - 1) - 1 : 2 ** bits - 1;
  const lowest = symmetric ? -highest : 0;
  const codes = symmetric ? new Int8Array(tokens * channels) : new Uint8Array(tokens * channels);
  for (let t = 0, i = 0; t < tokens; t++) {
    const first = Math.floor(t / groupTokens) * perRow;
    for (let c = 0; c < channels; c++, i++) {
      const group = first + column[c];
      // A rounded scale may put an extreme half a code out of range.
      const code = Math.round((rows[i] - offsets[group]) * inverses[group]);
      codes[i] = code < lowest ? lowest : code > highest ? highest : code;
    }
  }
  return {
    decode(out) {
      for (let t = 0, i = 0; t < tokens; t++) {
        const first = Math.floor(t / groupTokens) * perRow;
        for (let c = 0; c < channels; c++, i++)
          out[i] = offsets[first + column[c]] + codes[i] * scales[first + column[c]];
      }
    },
  };
};
