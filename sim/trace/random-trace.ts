/**
 * A small random trace for tests: Gaussian keys and values, a strong sink at token 0, queries that lean towards a few
 * keys. Says nothing about real attention; traces/attention/ has captures and a calibrated generator.
 */
import { createRandom } from '../engine/random.ts';
import { SimError } from '../error.ts';
import type { AttentionTrace, AttentionTraceShape } from './attention-trace.ts';

export interface RandomTraceOptions {
  readonly shape: AttentionTraceShape;
  readonly seed: number;
  /** From this token on, keys and values come from another seed: a different future. */
  readonly otherFrom?: number;
}

const SHARPNESS = 6;
const WINDOW_TOKENS = 16;

export const createRandomTrace = ({
  shape,
  seed,
  otherFrom = Infinity,
}: RandomTraceOptions): AttentionTrace => {
  const { heads, kvHeads, headDim, promptTokens, steps } = shape;
  const tokens = promptTokens + steps;
  const matrices = new Map<string, Float32Array>();
  const matrix = (name: string): Float32Array => {
    const known = matrices.get(name);
    if (known !== undefined) return known;
    const out = new Float32Array(tokens * headDim);
    createRandom(seed, name).fillNormal(out);
    if (otherFrom < tokens) createRandom(seed + 1, name).fillNormal(out.subarray(otherFrom * headDim));
    matrices.set(name, out);
    return out;
  };
  const keys = (layer: number, kvHead: number): Float32Array => matrix(`k-${layer}-${kvHead}`);
  const groupSize = heads / kvHeads;
  const queryRow = (layer: number, position: number, kvHead: number): Float32Array => {
    const out = new Float32Array(groupSize * headDim);
    const k = keys(layer, kvHead);
    for (let head = 0; head < groupSize; head++) {
      const random = createRandom(seed, `q-${layer}-${position}-${kvHead}-${head}`);
      const target = random.integer(position);
      for (let c = 0; c < headDim; c++) {
        out[head * headDim + c] =
          random.normal() + SHARPNESS * (k[target * headDim + c] / Math.sqrt(headDim) + k[c] / headDim);
      }
    }
    return out;
  };
  return {
    name: `random trace, seed ${seed}`,
    model: 'random',
    shape,
    digest: `random-${seed}`,
    has: (field, layer) => ['k', 'v', 'q', 'qprompt'].includes(field) && shape.recordedLayers.includes(layer),
    keys,
    values: (layer, kvHead) => matrix(`v-${layer}-${kvHead}`),
    queries: (layer, step, kvHead) => queryRow(layer, promptTokens + step, kvHead),
    promptQueries(layer, kvHead) {
      const windowTokens = Math.min(WINDOW_TOKENS, promptTokens - 1);
      const q = new Float32Array(windowTokens * groupSize * headDim);
      for (let w = 0; w < windowTokens; w++)
        q.set(queryRow(layer, promptTokens - windowTokens + w, kvHead), w * groupSize * headDim);
      return { windowTokens, q };
    },
    prefillMass: () => new Float32Array(heads * promptTokens),
    blockMass: () => {
      throw new SimError('invalid-input', 'a random trace has no block mass');
    },
    learnedScores: (field) => {
      throw new SimError('invalid-input', `a random trace has no ${field}`);
    },
  };
};
