/**
 * ParisKV's rerank code: a row is rotated (random signs, Hadamard), cut into subspaces of 8 channels, and each component
 * stored as sign and 3-bit magnitude relative to its subspace's norm, with one weight a subspace. The rotation makes
 * components alike, so that one set of levels serves all channels. amy-77/ParisKV cache_hub/polar_cache.py.
 */
import { createRandom } from '../engine/random.ts';

export const SUBSPACE = 8;
/** 3-bit magnitude quantiser of unit sub-vector components: thresholds and centres of the authors' code. */
const THRESHOLDS = [0.0843, 0.1698, 0.2578, 0.3499, 0.4487, 0.5585, 0.6901];
export const CENTRES = [0.042, 0.1266, 0.213, 0.3025, 0.3973, 0.5001, 0.6169, 0.7633] as const;
/** Codes of one component: bit 3 is the sign, the rest the level. */
export const CODES = 16;
const ROTATION_SEED = 42;

/**
 * Level of a magnitude in 0..1 by a table of 1024 bins, none of which has two thresholds: the level at the bin's start,
 * and the threshold in it, if any.
 */
const LEVEL_BINS = 1024;
const levelAtBin = new Uint8Array(LEVEL_BINS + 1);
const thresholdInBin = new Float64Array(LEVEL_BINS + 1).fill(Infinity);
for (let bin = 0; bin <= LEVEL_BINS; bin++) {
  levelAtBin[bin] = THRESHOLDS.filter((threshold) => threshold < bin / LEVEL_BINS).length;
  const inside = THRESHOLDS.find((t) => t >= bin / LEVEL_BINS && t < (bin + 1) / LEVEL_BINS);
  if (inside !== undefined) thresholdInBin[bin] = inside;
}

/** Channels after padding to a power of two, 8 at least. */
export const paddedDim = (headDim: number): number => {
  let dim = SUBSPACE;
  while (dim < headDim) dim *= 2;
  return dim;
};

/** In-place Walsh–Hadamard transform over x[0 .. n), n a power of two from 8 on, scaled by 1/√n: its own inverse. */
const hadamard = (x: Float64Array, n: number): void => {
  const scale = 1 / Math.sqrt(n);
  for (let i = 0; i < n; i += 4) {
    const a = x[i] + x[i + 1];
    const b = x[i] - x[i + 1];
    const c = x[i + 2] + x[i + 3];
    const d = x[i + 2] - x[i + 3];
    x[i] = (a + c) * scale;
    x[i + 1] = (b + d) * scale;
    x[i + 2] = (a - c) * scale;
    x[i + 3] = (b - d) * scale;
  }
  for (let half = 4; half < n; half *= 2) {
    for (let i = 0; i < n; i += 2 * half) {
      for (let j = i; j < i + half; j++) {
        const a = x[j];
        const b = x[j + half];
        x[j] = a + b;
        x[j + half] = a - b;
      }
    }
  }
};

/** The rotation that all heads of a run share. */
export class Rotation {
  readonly dim: number;
  private readonly headDim: number;
  private readonly signs: Float64Array;

  constructor(headDim: number) {
    this.headDim = headDim;
    this.dim = paddedDim(headDim);
    const random = createRandom(ROTATION_SEED, 'pariskv-signs');
    this.signs = Float64Array.from({ length: this.dim }, () => (random.uniform() < 0.5 ? -1 : 1));
  }

  /** Rotates the row at `at` into out[0 .. dim). */
  apply(source: Float32Array | Float64Array, at: number, out: Float64Array): void {
    const { headDim, signs } = this;
    if (headDim < this.dim) out.fill(0);
    for (let c = 0; c < headDim; c++) out[c] = source[at + c] * signs[c];
    hadamard(out, this.dim);
  }

  /** Rotates x[0 .. dim) back in place; writes the row's own channels to `out`. */
  invert(x: Float64Array, out: Float32Array, at: number): void {
    const { headDim, signs } = this;
    hadamard(x, this.dim);
    for (let c = 0; c < headDim; c++) out[at + c] = x[c] * signs[c];
  }
}

/**
 * Codes x[first .. first + 8) into codes[at ..]; returns the sub-vector's weight: norm over agreement (the product of
 * unit sub-vector and its code), which makes estimated inner products unbiased.
 */
export const codeSubvector = (x: Float64Array, first: number, codes: Uint8Array, at: number): number => {
  let square = 0;
  for (let c = first; c < first + SUBSPACE; c++) square += x[c] * x[c];
  const norm = Math.sqrt(square);
  const inverse = norm === 0 ? 0 : 1 / norm;
  let agreement = 0;
  for (let c = 0; c < SUBSPACE; c++) {
    const value = x[first + c];
    // Sign and level are random: computed without branches, which would be mispredicted.
    const negative = Number(value < 0);
    const magnitude = Math.abs(value) * inverse;
    const bin = (magnitude * LEVEL_BINS) | 0;
    const level = levelAtBin[bin] + Number(magnitude > thresholdInBin[bin]);
    agreement += magnitude * CENTRES[level];
    codes[at + c] = (negative << 3) | level;
  }
  return agreement === 0 ? 0 : norm / agreement;
};
