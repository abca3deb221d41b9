/**
 * Attention without structure, at any length and almost for free: one block of Gaussian rows over and over. For cells
 * whose bytes and times depend on lengths and parameters alone; it says nothing about what a choice is worth.
 */
import { createRandom } from '../../sim/engine/random.ts';
import { SimError } from '../../sim/error.ts';
import type { AttentionTrace, AttentionTraceShape, TraceField } from '../../sim/trace/attention-trace.ts';

const BLOCK_TOKENS = 4096;
const WINDOW_TOKENS = 64;
const HELD: readonly TraceField[] = ['v', 'qprompt', 'prefillMass', 'utility'];

/** Rows [tokens, headDim] made of copies of one random block. */
const tiled = (seed: number, name: string, tokens: number, headDim: number): Float32Array => {
  const out = new Float32Array(tokens * headDim);
  const block = out.subarray(0, Math.min(tokens, BLOCK_TOKENS) * headDim);
  createRandom(seed, name).fillNormal(block);
  for (let filled = block.length; filled < out.length; filled *= 2) out.copyWithin(filled, 0, filled);
  return out;
};

/** Uniform scores in [0, 1): what a learned module might say of tokens when nothing is known of them. */
const scores = (seed: number, name: string, tokens: number): Float32Array => {
  const random = createRandom(seed, name);
  return Float32Array.from({ length: tokens }, () => random.uniform());
};

/** `wanted`: fields that the policy asks for beside keys and queries; others would only take time to make. */
export const createEvenTrace = (
  model: string,
  shape: AttentionTraceShape,
  wanted: readonly TraceField[],
  seed: number,
): AttentionTrace => {
  const { heads, kvHeads, headDim, promptTokens, steps } = shape;
  const tokens = promptTokens + steps;
  const width = (heads / kvHeads) * headDim;
  const rows = (name: string, count: number, columns: number) => tiled(seed, name, count, columns);
  const fields = new Set<TraceField>(['k', 'q', ...HELD.filter((field) => wanted.includes(field))]);
  return {
    name: `even attention of ${model}, ${promptTokens} tokens`,
    model,
    shape,
    digest: `even-${seed}-${JSON.stringify(shape)}`,
    has: (field) => fields.has(field),
    keys: (layer, kvHead) => rows(`k-${layer}-${kvHead}`, tokens, headDim),
    values: (layer, kvHead) => rows(`v-${layer}-${kvHead}`, tokens, headDim),
    queries: (layer, step, kvHead) => rows(`q-${layer}-${step}-${kvHead}`, 1, width),
    promptQueries(layer, kvHead) {
      const windowTokens = Math.min(WINDOW_TOKENS, promptTokens);
      return { windowTokens, q: rows(`p-${layer}-${kvHead}`, windowTokens, width) };
    },
    prefillMass: (layer) => scores(seed, `mass-${layer}`, heads * promptTokens),
    learnedScores: (field, layer, kvHead) => scores(seed, `${field}-${layer}-${kvHead}`, tokens),
    blockMass: () => {
      throw new SimError('invalid-input', 'an even trace has no block mass');
    },
  };
};
