/** ParisKV's index against its definition, worked out the slow way: tiers, collisions and estimates. */
import { describe, expect, test } from 'vitest';
import { createRandom } from '../engine/random.ts';
import { roundToHalf } from './group-quantiser.ts';
import { ParisIndex } from './pariskv-index.ts';

const thresholds = [0.0843, 0.1698, 0.2578, 0.3499, 0.4487, 0.5585, 0.6901];
const centres = [0.042, 0.1266, 0.213, 0.3025, 0.3973, 0.5001, 0.6169, 0.7633];
const shares = [0.05, 0.15, 0.3, 0.5, 0.75, 1];

const normals = (count: number, name: string): Float64Array => {
  const random = createRandom(42, name);
  return Float64Array.from({ length: count }, () => Math.fround(random.normal()));
};

/** Random signs, then the Hadamard matrix entry by entry: row r has the sign of the parity of r & c. */
const rotate = (x: Float64Array, dim: number): Float64Array => {
  const random = createRandom(42, 'pariskv-signs');
  const signs = Array.from({ length: dim }, () => (random.uniform() < 0.5 ? -1 : 1));
  const parity = (bits: number): number => (bits === 0 ? 0 : (bits & 1) ^ parity(bits >>> 1));
  return Float64Array.from({ length: dim }, (_, r) => {
    let sum = 0;
    for (let c = 0; c < x.length; c++) sum += (parity(r & c) === 1 ? -1 : 1) * signs[c] * x[c];
    return sum / Math.sqrt(dim);
  });
};

describe.each([
  { headDim: 64, dim: 64 },
  { headDim: 80, dim: 128 },
])('rows of $headDim channels', ({ headDim, dim }) => {
  const tokens = 300;
  const from = 4;
  const rho = 0.25;
  const keys = normals(tokens * headDim, 'keys');
  const query = normals(headDim, 'query');
  const index = new ParisIndex(tokens, headDim, from);
  index.encode(Float32Array.from(keys), tokens);
  index.prepare(query, rho);
  const rotated = Array.from({ length: tokens }, (_, t) =>
    rotate(keys.slice(t * headDim, (t + 1) * headDim), dim),
  );
  const q = rotate(query, dim);
  const idOf = (x: Float64Array, b: number): number =>
    Array.from({ length: 8 }, (_, c) => (x[8 * b + c] < 0 ? 1 << c : 0)).reduce((a, bit) => a | bit, 0);

  test('an estimate is the product with the quantised key, rescaled to be unbiased', () => {
    for (let token = from; token < tokens; token += 11) {
      let wanted = 0;
      for (let b = 0; b < dim / 8; b++) {
        const part = rotated[token].subarray(8 * b, 8 * b + 8);
        const norm = Math.sqrt(part.reduce((sum, x) => sum + x * x, 0));
        const quantised = part.map((x) => {
          const level = thresholds.filter((threshold) => Math.abs(x) / norm > threshold).length;
          return Math.sign(x) * centres[level];
        });
        const agreement = part.reduce((sum, x, c) => sum + (x / norm) * quantised[c], 0);
        const product = quantised.reduce((sum, x, c) => sum + x * q[8 * b + c], 0);
        wanted += product * roundToHalf(norm / agreement);
      }
      expect(index.estimate(token)).toBeCloseTo(wanted, 5);
    }
  });

  test('collisions count the tiers of a key in all subspaces', () => {
    const collisions = new Uint16Array(tokens);
    index.collide(collisions);
    const wanted = new Array(tokens - from).fill(0);
    for (let b = 0; b < dim / 8; b++) {
      const ids = rotated.slice(from).map((x) => idOf(x, b));
      const proximity = (id: number): number =>
        Array.from({ length: 8 }, (_, c) => ((id >> c) & 1 ? -1 : 1) * q[8 * b + c]).reduce((a, x) => a + x);
      const order = Array.from({ length: 256 }, (_, id) => id).sort((a, z) => proximity(z) - proximity(a));
      let covered = 0;
      for (const id of order) {
        const passed = shares.filter((share) => covered >= share * (rho * (tokens - from))).length;
        for (const [i, found] of ids.entries()) if (found === id) wanted[i] += shares.length - passed;
        covered += ids.filter((found) => found === id).length;
      }
    }
    expect([...collisions.subarray(0, tokens - from)]).toEqual(wanted);
  });
});
