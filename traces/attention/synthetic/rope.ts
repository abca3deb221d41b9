/**
 * Rotary position embedding in the half-split convention of Hugging Face models (channels i and i + d/2 are a pair):
 * Su et al., arXiv:2104.09864. Rotations advance by recurrence inside a block and restart exactly at each block.
 */
import { cos, exp, log, sin } from '../../../sim/engine/math.ts';

/** Radians a token of each pair, fastest first. */
export function ropeFrequencies(headDim: number, theta: number): Float64Array {
  const pairs = headDim / 2;
  return Float64Array.from({ length: pairs }, (_, pair) => exp((-log(theta) * pair) / pairs));
}

/**
 * The base at which the slowest quarter of the pairs turns at most a quarter turn over `tokens`, if the model's own is
 * smaller: what long-context fine-tuning does, so that content can be matched at any distance.
 */
export function effectiveTheta(theta: number, tokens: number): number {
  const reach = (2 * tokens) / Math.PI;
  return reach <= 1 ? theta : Math.max(theta, exp((log(reach) * 4) / 3));
}

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

/**
 * The mean key as a query at the end of the prompt meets it on average over far keys: the pairs that turn often cancel.
 * Unrotated, relative to the query's position.
 */
export function meanFarKey(
  keyMean: Float64Array,
  frequencies: Float64Array,
  promptTokens: number,
): Float64Array {
  const pairs = frequencies.length;
  const samples = 256;
  const key = new Float64Array(2 * pairs);
  for (let pair = 0; pair < pairs; pair++) {
    let [x, y] = [0, 0];
    for (let i = 0; i < samples; i++) {
      const angle = frequencies[pair] * (((i + 0.5) / samples) * promptTokens);
      x += cos(angle) / samples;
      y -= sin(angle) / samples;
    }
    key[pair] = keyMean[pair] * x - keyMean[pair + pairs] * y;
    key[pair + pairs] = keyMean[pair] * y + keyMean[pair + pairs] * x;
  }
  return key;
}
