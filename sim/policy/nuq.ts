/**
 * KVQuant's non-uniform quantisation (arXiv 2401.18079, 3.2 to 3.4; SqueezeAILab/KVQuant): values are normalised to
 * -1..1 by the range of their vector (key channel or value token), outliers are taken out and kept in half precision, and
 * the rest takes the nearest of 2^bits levels that 1-D k-means placed. Levels, key ranges and outlier bounds are
 * calibrated once, here on the first rows of the head itself; the Fisher weights of the paper need gradients and are 1.
 */
import { roundToHalf } from './group-quantiser.ts';

export interface NuqConfig {
  readonly bits: number;
  /** Share of elements kept as outliers. */
  readonly outlierShare: number;
}

/** What calibration fixes for one head's keys, or values. */
export interface NuqTable {
  /** Levels in -1..1, ascending, and the bounds half way between them. */
  readonly levels: Float64Array;
  readonly bounds: Float64Array;
  /** Middle and half width of each key channel's range; null for values, whose tokens bring their own. */
  readonly middle: Float64Array | null;
  readonly halfWidth: Float64Array | null;
  /** Values: an element this many spreads (root mean square) from the token's mean is an outlier. */
  readonly outlierSpreads: number;
}

const BINS = 4096;
const ITERATIONS = 40;
/** Relative error of two roundings to half precision. */
const HALF_ERROR = 2 ** -10;

/** 1-D k-means (Lloyd) over a histogram of -1..1, from uniform levels: deterministic, one pass a round. */
export const placeLevels = (counts: Float64Array, levels: number): Float64Array => {
  const bins = counts.length;
  const centreOf = (bin: number): number => (2 * bin + 1) / bins - 1;
  const centres = Float64Array.from({ length: levels }, (_, level) => (2 * level + 1) / levels - 1);
  for (let round = 0; round < ITERATIONS; round++) {
    let level = 0;
    let weight = 0;
    let sum = 0;
    const settle = (): void => {
      if (weight > 0) centres[level] = sum / weight;
      weight = 0;
      sum = 0;
      level++;
    };
    const bounds = boundsOf(centres);
    for (let bin = 0; bin < bins; bin++) {
      const x = centreOf(bin);
      while (level < levels - 1 && x >= bounds[level]) settle();
      weight += counts[bin];
      sum += counts[bin] * x;
    }
    settle();
  }
  return centres;
};

const boundsOf = (levels: Float64Array): Float64Array =>
  Float64Array.from({ length: levels.length - 1 }, (_, i) => (levels[i] + levels[i + 1]) / 2);

/** Index of the nearest level: how many bounds lie at or below x. */
const levelOf = (bounds: Float64Array, x: number): number => {
  let low = 0;
  let high = bounds.length;
  while (low < high) {
    const at = (low + high) >> 1;
    if (bounds[at] <= x) low = at + 1;
    else high = at;
  }
  return low;
};

const addToHistogram = (counts: Float64Array, x: number): void => {
  if (x >= -1 && x <= 1) counts[Math.min(BINS - 1, Math.floor(((x + 1) / 2) * BINS))]++;
};

const tableOf = (counts: Float64Array, bits: number, rest: Omit<NuqTable, 'levels' | 'bounds'>): NuqTable => {
  const levels = placeLevels(counts, 2 ** bits).map(roundToHalf);
  return { levels, bounds: boundsOf(levels), ...rest };
};

/** Key tables from rows [0, tokens): each channel's range without the outer `outlierShare` of its values. */
export const calibrateKeys = (
  keys: Float32Array,
  d: number,
  tokens: number,
  { bits, outlierShare }: NuqConfig,
): NuqTable => {
  const middle = new Float64Array(d);
  const halfWidth = new Float64Array(d);
  const column = new Float32Array(tokens);
  const counts = new Float64Array(BINS);
  const cut = Math.floor((outlierShare / 2) * tokens);
  for (let c = 0; c < d; c++) {
    for (let t = 0; t < tokens; t++) column[t] = keys[t * d + c];
    column.sort();
    const [least, most] = [column[cut], column[tokens - 1 - cut]];
    middle[c] = roundToHalf((least + most) / 2);
    halfWidth[c] = roundToHalf((most - least) / 2);
    if (halfWidth[c] === 0) continue;
    for (let t = 0; t < tokens; t++) addToHistogram(counts, (column[t] - middle[c]) / halfWidth[c]);
  }
  return tableOf(counts, bits, { middle, halfWidth, outlierSpreads: Infinity });
};

/** Mean and spread (root mean square distance from it) of one row. */
const spreadOf = (rows: Float32Array, at: number, d: number): { mean: number; spread: number } => {
  let sum = 0;
  let square = 0;
  for (let c = 0; c < d; c++) {
    sum += rows[at + c];
    square += rows[at + c] * rows[at + c];
  }
  const mean = sum / d;
  return { mean, spread: Math.sqrt(Math.max(0, square / d - mean * mean)) };
};

/** Middle and half width of one token's values that are no outliers, in half precision. */
const rangeOfToken = (rows: Float32Array, at: number, d: number, spreads: number) => {
  const { mean, spread } = spreadOf(rows, at, d);
  let least = Infinity;
  let most = -Infinity;
  for (let c = 0; c < d; c++) {
    const x = rows[at + c];
    if (Math.abs(x - mean) > spreads * spread) continue;
    if (x < least) least = x;
    if (x > most) most = x;
  }
  return { middle: roundToHalf((least + most) / 2), halfWidth: roundToHalf((most - least) / 2) };
};

/** Value tables from rows [0, tokens): the bound that `outlierShare` of the elements pass, and the levels below it. */
export const calibrateValues = (
  values: Float32Array,
  d: number,
  tokens: number,
  { bits, outlierShare }: NuqConfig,
): NuqTable => {
  const distances = new Float32Array(tokens * d);
  for (let t = 0; t < tokens; t++) {
    const { mean, spread } = spreadOf(values, t * d, d);
    for (let c = 0; c < d; c++)
      distances[t * d + c] = spread === 0 ? 0 : Math.abs(values[t * d + c] - mean) / spread;
  }
  distances.sort();
  const outliers = Math.floor(outlierShare * distances.length);
  const outlierSpreads = distances[distances.length - 1 - outliers];
  const counts = new Float64Array(BINS);
  for (let t = 0; t < tokens; t++) {
    const { middle, halfWidth } = rangeOfToken(values, t * d, d, outlierSpreads);
    if (halfWidth === 0) continue;
    for (let c = 0; c < d; c++) addToHistogram(counts, (values[t * d + c] - middle) / halfWidth);
  }
  return tableOf(counts, bits, { middle: null, halfWidth: null, outlierSpreads });
};

/** Coded rows [from, from + tokens), and how many of their elements were kept as outliers. */
export const nuqRows = (rows: Float32Array, d: number, from: number, tokens: number, table: NuqTable) => {
  const { levels, bounds, outlierSpreads } = table;
  const codes = new Uint8Array(tokens * d);
  const middle = table.middle ?? new Float64Array(tokens);
  const halfWidth = table.halfWidth ?? new Float64Array(tokens);
  const perToken = table.middle === null;
  const outlierAt: number[] = [];
  const outlierValue: number[] = [];
  for (let t = 0, i = 0; t < tokens; t++) {
    const at = (from + t) * d;
    if (perToken) {
      const range = rangeOfToken(rows, at, d, outlierSpreads);
      middle[t] = range.middle;
      halfWidth[t] = range.halfWidth;
    }
    for (let c = 0; c < d; c++, i++) {
      const v = perToken ? t : c;
      const x = rows[at + c] - middle[v];
      // Ranges are rounded to halves: what they were made of may lie just outside, and is no outlier.
      if (Math.abs(x) > halfWidth[v] + HALF_ERROR * (halfWidth[v] + Math.abs(middle[v]))) {
        outlierAt.push(i);
        outlierValue.push(roundToHalf(rows[at + c]));
      } else if (halfWidth[v] > 0) codes[i] = levelOf(bounds, x / halfWidth[v]);
    }
  }
  return {
    outliers: outlierAt.length,
    decode(out: Float32Array): void {
      for (let t = 0, i = 0; t < tokens; t++) {
        for (let c = 0; c < d; c++, i++) {
          const v = perToken ? t : c;
          out[i] = middle[v] + halfWidth[v] * levels[codes[i]];
        }
      }
      for (let o = 0; o < outlierAt.length; o++) out[outlierAt[o]] = outlierValue[o];
    },
  };
};
