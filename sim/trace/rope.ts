/**
 * Rotary position embedding in the half-split convention of Hugging Face models (channels i and i + d/2 are a pair):
 * Su et al., arXiv:2104.09864. With it known, keys can be seen as they were before rotation.
 */
import * as z from 'zod';
import { cos, exp, log, sin } from '../engine/math.ts';

/** How the keys of a trace were rotated. */
export interface Rope {
  /** Radians a token of each pair, fastest first; one for every two channels. */
  readonly frequencies: Float64Array;
  /** Tokens from `gapToken` on sit `gapTokens` positions further: a context that was cut out of a longer one. */
  readonly gapToken: number;
  readonly gapTokens: number;
}

/** Radians a token of each pair, fastest first. */
export function ropeFrequencies(headDim: number, theta: number): Float64Array {
  const pairs = headDim / 2;
  return Float64Array.from({ length: pairs }, (_, pair) => exp((-log(theta) * pair) / pairs));
}

/** Llama 3.1's stretching of slow pairs: config.json's rope_scaling, transformers' modeling_rope_utils.py. */
const llama3Scaling = z.object({
  rope_type: z.literal('llama3'),
  factor: z.number().positive(),
  low_freq_factor: z.number().positive(),
  high_freq_factor: z.number().positive(),
  original_max_position_embeddings: z.number().positive(),
});
const linearScaling = z.object({ rope_type: z.literal('linear'), factor: z.number().positive() });

/**
 * The rotation that a trace's metadata names; null where it is none that this file knows (another scaling, or rotary
 * channels that are only a part of the head).
 */
export const ropeOf = (
  { theta, scaling, dim }: { readonly theta: number; readonly scaling?: unknown; readonly dim: number },
  headDim: number,
): Rope | null => {
  if (dim !== headDim) return null;
  const plain = ropeFrequencies(headDim, theta);
  const rope = (frequencies: Float64Array): Rope => ({ frequencies, gapToken: 0, gapTokens: 0 });
  if (scaling === null || scaling === undefined) return rope(plain);
  const linear = linearScaling.safeParse(scaling);
  if (linear.success) return rope(plain.map((angle) => angle / linear.data.factor));
  const llama3 = llama3Scaling.safeParse(scaling);
  if (!llama3.success) return null;
  const {
    factor,
    low_freq_factor: low,
    high_freq_factor: high,
    original_max_position_embeddings: original,
  } = llama3.data;
  return rope(
    plain.map((angle) => {
      // Turns that the pair makes over the original context: many stay, few are stretched, between is blended.
      const turns = (original * angle) / (2 * Math.PI);
      const kept = Math.min(1, Math.max(0, (turns - low) / (high - low)));
      return angle * (kept + (1 - kept) / factor);
    }),
  );
};

/** Rotates `rows` rows of [rows, headDim] in place; row r sits at position first + r * stride. */
export function rotateRows(
  data: Float32Array,
  rows: number,
  frequencies: Float64Array,
  first: number,
  stride: number,
): void {
  const pairs = frequencies.length;
  const headDim = pairs * 2;
  for (let pair = 0; pair < pairs; pair++) {
    const angle = frequencies[pair];
    let c = cos(angle * first);
    let s = sin(angle * first);
    const cosStep = cos(angle * stride);
    const sinStep = sin(angle * stride);
    for (let row = 0, at = pair; row < rows; row++, at += headDim) {
      const x = data[at];
      const y = data[at + pairs];
      data[at] = x * c - y * s;
      data[at + pairs] = x * s + y * c;
      const next = c * cosStep - s * sinStep;
      s = s * cosStep + c * sinStep;
      c = next;
    }
  }
}

/** Rotates rows of tokens [first, first + rows) by their positions, or back by them (`way` -1). */
const rotateTokens = (data: Float32Array, rows: number, first: number, rope: Rope, way: 1 | -1): void => {
  const { gapToken, gapTokens } = rope;
  const width = 2 * rope.frequencies.length;
  const frequencies = way === 1 ? rope.frequencies : rope.frequencies.map((angle) => -angle);
  const before = Math.min(rows, Math.max(0, gapToken - first));
  rotateRows(data, before, frequencies, first, 1);
  rotateRows(data.subarray(before * width), rows - before, frequencies, first + before + gapTokens, 1);
};

/** Makes rows [rows, headDim] of tokens from `first` on what they were before rotation, in place. */
export const unrotate = (data: Float32Array, rows: number, first: number, rope: Rope): void =>
  rotateTokens(data, rows, first, rope, -1);

/** The inverse of `unrotate`. */
export const rotate = (data: Float32Array, rows: number, first: number, rope: Rope): void =>
  rotateTokens(data, rows, first, rope, 1);
