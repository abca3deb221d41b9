/**
 * A shorter view of a recorded trace: the first few tokens (attention sinks) and the most recent ones before decoding
 * starts, so that queries keep both their sink and their recency. Fewer decode steps simply end earlier.
 */
import { digestOfJson } from '../engine/digest.ts';
import { SimError } from '../error.ts';
import type { AttentionTrace, TraceField } from './attention-trace.ts';

/** First prompt tokens that every window keeps: StreamingLLM finds four enough (arXiv 2309.17453). */
const SINK_TOKENS = 4;

/** Rows [0, sinks) and [cut, tokens) of a row-major [rows, width] matrix with at least `tokens` rows. */
const cutRows = (
  matrix: Float32Array,
  width: number,
  sinks: number,
  cut: number,
  tokens: number,
): Float32Array => {
  const out = new Float32Array((sinks + tokens - cut) * width);
  out.set(matrix.subarray(0, sinks * width));
  out.set(matrix.subarray(cut * width, tokens * width), sinks * width);
  return out;
};

/** What is left of token range [from, to) when tokens [sinks, cut) are taken out: none, one or two ranges. */
const cutRange = (
  [from, to]: readonly [number, number],
  sinks: number,
  cut: number,
): readonly (readonly [number, number])[] => {
  const shift = cut - sinks;
  const parts = [
    [from, Math.min(to, sinks)],
    [Math.max(from, cut) - shift, to - shift],
  ] as const;
  return parts.filter(([first, end]) => end > first);
};

/** The trace with `contextTokens` prompt tokens and `steps` decode steps. Throws when the trace is shorter. */
export const windowTrace = (trace: AttentionTrace, contextTokens: number, steps: number): AttentionTrace => {
  const { shape } = trace;
  if (contextTokens > shape.promptTokens) {
    throw new SimError(
      'invalid-input',
      `--context ${contextTokens}: trace ${trace.name} has ${shape.promptTokens} prompt tokens`,
    );
  }
  if (steps > shape.steps) {
    throw new SimError(
      'invalid-input',
      `--steps ${steps}: trace ${trace.name} records ${shape.steps} decode steps`,
    );
  }
  if (contextTokens === shape.promptTokens && steps === shape.steps) return trace;
  const sinks = Math.min(SINK_TOKENS, contextTokens);
  const cut = shape.promptTokens - (contextTokens - sinks);
  const tokens = shape.promptTokens + steps;
  const { headDim, heads } = shape;
  const groupSize = heads / shape.kvHeads;
  return {
    name: trace.name,
    model: trace.model,
    shape: { ...shape, promptTokens: contextTokens, steps },
    digest: digestOfJson({ trace: trace.digest, contextTokens, steps }),
    rope: trace.rope ? { ...trace.rope, gapToken: sinks, gapTokens: cut - sinks } : null,
    ...(trace.evidenceTokens
      ? { evidenceTokens: trace.evidenceTokens.flatMap((range) => cutRange(range, sinks, cut)) }
      : {}),
    // Blocks of a shorter context would begin elsewhere: their mass is not known.
    has: (field: TraceField, layer: number) =>
      trace.has(field, layer) && (field !== 'mass' || contextTokens === shape.promptTokens),
    keys: (layer, kvHead) => cutRows(trace.keys(layer, kvHead), headDim, sinks, cut, tokens),
    values: (layer, kvHead) => cutRows(trace.values(layer, kvHead), headDim, sinks, cut, tokens),
    queries: (layer, step, kvHead) => trace.queries(layer, step, kvHead),
    promptQueries(layer, kvHead) {
      const { windowTokens, q } = trace.promptQueries(layer, kvHead);
      const kept = Math.min(windowTokens, contextTokens - sinks);
      return { windowTokens: kept, q: q.subarray((windowTokens - kept) * groupSize * headDim) };
    },
    prefillMass(layer) {
      const mass = trace.prefillMass(layer);
      const out = new Float32Array(heads * contextTokens);
      for (let head = 0; head < heads; head++) {
        const row = mass.subarray(head * shape.promptTokens, (head + 1) * shape.promptTokens);
        out.set(cutRows(row, 1, sinks, cut, shape.promptTokens), head * contextTokens);
      }
      return out;
    },
    blockMass(layer) {
      if (contextTokens !== shape.promptTokens) {
        throw new SimError(
          'invalid-input',
          `--context ${contextTokens}: trace ${trace.name} records block mass at ${shape.promptTokens} prompt tokens only`,
        );
      }
      const { blockTokens, mass } = trace.blockMass(layer);
      return { blockTokens, mass: mass.subarray(0, (mass.length / shape.steps) * steps) };
    },
    learnedScores(field, layer, kvHead) {
      const scores = trace.learnedScores(field, layer, kvHead);
      return cutRows(scores, 1, sinks, cut, Math.min(scores.length, tokens));
    },
  };
};
