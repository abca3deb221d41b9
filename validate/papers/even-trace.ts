/**
 * Attention without structure, at any length and almost for free: one block of Gaussian rows over and over. For cells
 * whose bytes and times depend on lengths and parameters alone; it says nothing about what a choice is worth.
 */
import { createRandom } from '../../sim/engine/random.ts';
import { SimError } from '../../sim/error.ts';
import type { AttentionTrace, AttentionTraceShape, TraceField } from '../../sim/trace/attention-trace.ts';

const BLOCK_TOKENS = 4096;
const SEED = 1;
const WINDOW_TOKENS = 64;
const HELD: readonly TraceField[] = ['v', 'qprompt', 'prefillMass', 'utility'];

/** The rows of even traces: one long array a width, of which every trace and head takes a piece. Read only. */
export class EvenRows {
  private readonly longest = new Map<number, Float32Array>();

  /** The first `count` rows of `width` values. */
  take(count: number, width: number): Float32Array {
    const size = count * width;
    const known = this.longest.get(width);
    if (known && known.length >= size) return known.subarray(0, size);
    const rows = new Float32Array(size);
    const block = rows.subarray(0, Math.min(count, BLOCK_TOKENS) * width);
    createRandom(SEED, `rows-${width}`).fillNormal(block);
    for (let filled = block.length; filled < size; filled *= 2) rows.copyWithin(filled, 0, filled);
    this.longest.set(width, rows);
    return rows;
  }
}

/** Uniform scores in [0, 1): what a learned module might say of tokens when nothing is known of them. */
const scores = (name: string, tokens: number): Float32Array => {
  const random = createRandom(SEED, name);
  return Float32Array.from({ length: tokens }, () => random.uniform());
};

/** `wanted`: fields that the policy asks for beside keys and queries; others would only take time to make. */
export const createEvenTrace = (
  model: string,
  shape: AttentionTraceShape,
  wanted: readonly TraceField[],
  rows: EvenRows,
): AttentionTrace => {
  const { heads, kvHeads, headDim, promptTokens, steps } = shape;
  const tokens = promptTokens + steps;
  const width = (heads / kvHeads) * headDim;
  const fields = new Set<TraceField>(['k', 'q', ...HELD.filter((field) => wanted.includes(field))]);
  return {
    name: `even attention of ${model}, ${promptTokens} tokens`,
    model,
    shape,
    digest: `even-${SEED}-${JSON.stringify(shape)}`,
    has: (field) => fields.has(field),
    keys: () => rows.take(tokens, headDim),
    values: () => rows.take(tokens, headDim),
    // Another row each step, so that nothing is chosen twice for want of a new question.
    queries: (_, step) => rows.take(step + 1, width).subarray(step * width),
    promptQueries() {
      const windowTokens = Math.min(WINDOW_TOKENS, promptTokens);
      return { windowTokens, q: rows.take(windowTokens, width) };
    },
    prefillMass: (layer) => scores(`mass-${layer}`, heads * promptTokens),
    learnedScores: (field, layer, kvHead) => scores(`${field}-${layer}-${kvHead}`, tokens),
    blockMass: () => {
      throw new SimError('invalid-input', 'an even trace has no block mass');
    },
  };
};
