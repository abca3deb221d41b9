/** Rotation by position against the formula, its inverse, and transformers' stretched frequencies. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createRandom } from '../engine/random.ts';
import { createRandomTrace } from './random-trace.ts';
import { ropeFrequencies, ropeOf, rotate, unrotate } from './rope.ts';
import { windowTrace } from './window.ts';

const normals = (count: number, seed: number): Float32Array => {
  const out = new Float32Array(count);
  createRandom(seed, 'rope-test').fillNormal(out);
  return out;
};

describe('rotation', () => {
  test('turns pair i of the token at p by p · theta^(-2i/d), beyond a gap by the gap more', () => {
    const [d, rows, first] = [8, 5, 3];
    const rope = { frequencies: ropeFrequencies(d, 100), gapToken: 5, gapTokens: 40 };
    const plain = normals(rows * d, 1);
    const turned = plain.slice();
    rotate(turned, rows, first, rope);
    for (let row = 0; row < rows; row++) {
      const position = first + row + (first + row >= 5 ? 40 : 0);
      for (let pair = 0; pair < d / 2; pair++) {
        const angle = position * 100 ** ((-2 * pair) / d);
        const [x, y] = [plain[row * d + pair], plain[row * d + pair + d / 2]];
        expect(turned[row * d + pair]).toBeCloseTo(x * Math.cos(angle) - y * Math.sin(angle), 5);
        expect(turned[row * d + pair + d / 2]).toBeCloseTo(x * Math.sin(angle) + y * Math.cos(angle), 5);
      }
    }
  });

  test('is undone, wherever the rows begin', () => {
    fc.assert(
      fc.property(fc.nat(50), fc.nat(60), fc.nat(2000), (first, gapToken, gapTokens) => {
        const rope = { frequencies: ropeFrequencies(16, 10000), gapToken, gapTokens };
        const plain = normals(20 * 16, first);
        const turned = plain.slice();
        rotate(turned, 20, first, rope);
        unrotate(turned, 20, first, rope);
        turned.forEach((x, i) => {
          expect(x).toBeCloseTo(plain[i], 5);
        });
      }),
      { seed: 42, numRuns: 30 },
    );
  });
});

describe('metadata', () => {
  test('llama3 scaling keeps fast pairs, divides slow ones by the factor, blends between', () => {
    const scaling = {
      rope_type: 'llama3',
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    };
    const rope = ropeOf({ theta: 500000, scaling, dim: 128 }, 128);
    const plain = ropeFrequencies(128, 500000);
    rope?.frequencies.forEach((angle, pair) => {
      const wavelength = (2 * Math.PI) / plain[pair];
      if (wavelength < 8192 / 4) expect(angle).toBe(plain[pair]);
      else if (wavelength > 8192) expect(angle).toBeCloseTo(plain[pair] / 8, 15);
      else {
        const smooth = (8192 / wavelength - 1) / 3;
        expect(angle / (((1 - smooth) * plain[pair]) / 8 + smooth * plain[pair])).toBeCloseTo(1, 12);
      }
    });
    expect(rope).not.toBeNull();
  });

  test('what is not known is null, not guessed', () => {
    expect(ropeOf({ theta: 1e4, scaling: { rope_type: 'yarn', factor: 4 }, dim: 64 }, 64)).toBeNull();
    expect(ropeOf({ theta: 1e4, scaling: null, dim: 32 }, 64)).toBeNull();
    expect(
      ropeOf({ theta: 1e4, scaling: { rope_type: 'linear', factor: 4 }, dim: 4 }, 4)?.frequencies[0],
    ).toBe(0.25);
  });
});

test('a shorter view of a trace knows that its tail sits further on', () => {
  const shape = {
    layers: 1,
    heads: 2,
    kvHeads: 1,
    headDim: 8,
    promptTokens: 60,
    steps: 4,
    recordedLayers: [0],
  };
  const rope = { frequencies: ropeFrequencies(8, 1e4), gapToken: 0, gapTokens: 0 };
  const whole = { ...createRandomTrace({ shape, seed: 3 }), rope };
  const cut = windowTrace(whole, 20, 4);
  if (!cut.rope) throw new Error('the rotation was lost');
  const expected = whole.keys(0, 0).slice();
  const found = cut.keys(0, 0).slice();
  unrotate(expected, 64, 0, rope);
  unrotate(found, 24, 0, cut.rope);
  for (let c = 0; c < 8; c++) {
    expect(found[2 * 8 + c]).toBeCloseTo(expected[2 * 8 + c], 5);
    expect(found[20 * 8 + c]).toBeCloseTo(expected[60 * 8 + c], 5);
  }
});
