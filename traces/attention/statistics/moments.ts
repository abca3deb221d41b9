/** Means and deviations of rows of channels, and rotary pairs as complex numbers. Blocks of rows count alike. */
import { cos, sin } from '../../../sim/engine/math.ts';

export const square = (x: number): number => x * x;

/** Mean row over blocks of rows [rows, width]: each block counts alike, however long, since a prompt is one observation. */
export function meanRows(width: number, blocks: readonly Float32Array[]): Float64Array {
  const mean = new Float64Array(width);
  for (const rows of blocks) {
    const share = width / rows.length / blocks.length;
    for (let i = 0; i < rows.length; i++) mean[i % width] += rows[i] * share;
  }
  return mean;
}

/** Standard deviation of each channel about `mean`; never 0, so that it can be divided by. */
export function channelDeviations(mean: Float64Array, blocks: readonly Float32Array[]): Float64Array {
  const width = mean.length;
  const variance = new Float64Array(width).fill(1e-12);
  for (const rows of blocks) {
    const share = width / rows.length / blocks.length;
    for (let i = 0; i < rows.length; i++) {
      const x = rows[i] - mean[i % width];
      variance[i % width] += x * x * share;
    }
  }
  return variance.map((x) => Math.sqrt(x));
}

/** Modulus and phase of each pair of a row. */
export function polar(row: Float64Array): { modulus: Float64Array; phase: Float64Array } {
  const pairs = row.length / 2;
  const modulus = Float64Array.from({ length: pairs }, (_, pair) => modulusOf(row, pair));
  return { modulus, phase: modulus.map((r, pair) => phaseOf(row[pair], row[pair + pairs], r)) };
}

const modulusOf = (row: Float64Array, pair: number): number => {
  const [x, y] = [row[pair], row[pair + row.length / 2]];
  return Math.sqrt(x * x + y * y);
};

/** Angle of a point at distance r from 0: from the middle of its quadrant by steps whose error falls cubically. */
function phaseOf(x: number, y: number, r: number): number {
  if (r === 0) return 0;
  let angle = (y < 0 ? -1 : 1) * (x < 0 ? 0.75 : 0.25) * Math.PI;
  for (let i = 0; i < 4; i++) angle += (y * cos(angle) - x * sin(angle)) / r;
  return angle;
}
