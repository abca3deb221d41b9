/** Block mass through a window: fewer steps cut rows, another context is refused. */
import { describe, expect, it } from 'vitest';
import type { AttentionTrace } from './attention-trace.ts';
import { createRandomTrace } from './random-trace.ts';
import { windowTrace } from './window.ts';

const shape = {
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headDim: 4,
  promptTokens: 30,
  steps: 3,
  recordedLayers: [0, 1],
};
const random = createRandomTrace({ shape, seed: 1 });
const blocks = 3;
const trace: AttentionTrace = {
  ...random,
  has: (field, layer) => field === 'mass' || random.has(field, layer),
  blockMass: () => ({
    blockTokens: 11,
    mass: Float32Array.from({ length: shape.steps * shape.kvHeads * blocks }, (_, i) => i),
  }),
};

describe('block mass in a window', () => {
  it('keeps the rows of the steps that are left', () => {
    const cut = windowTrace(trace, 30, 2);
    expect(cut.has('mass', 1)).toBe(true);
    expect(cut.blockMass(1).blockTokens).toBe(11);
    expect([...cut.blockMass(1).mass]).toEqual(Array.from({ length: 12 }, (_, i) => i));
  });

  it('is not known for a shorter context', () => {
    const cut = windowTrace(trace, 20, 3);
    expect(cut.has('mass', 1)).toBe(false);
    expect(cut.has('k', 1)).toBe(true);
    expect(() => cut.blockMass(1)).toThrow('block mass at 30 prompt tokens only');
  });
});

describe('evidence in a window', () => {
  it('moves with its tokens, and is cut with them', () => {
    const told = {
      ...trace,
      evidenceTokens: [
        [2, 6],
        [10, 16],
        [20, 22],
        [3, 25],
      ] as const,
    };
    // Tokens 4 to 13 are taken out: 0-3 stay, 14 becomes 4.
    expect(windowTrace(told, 20, 3).evidenceTokens).toEqual([
      [2, 4],
      [4, 6],
      [10, 12],
      [3, 4],
      [4, 15],
    ]);
    expect(windowTrace(trace, 20, 3).evidenceTokens).toBeUndefined();
    expect(windowTrace(told, 30, 3).evidenceTokens).toBe(told.evidenceTokens);
  });
});
