/**
 * Keys and queries of one KV head as they were before rotation, from captured ones: rotation by position is undone, so
 * that what is left depends on the text alone. Also which tokens of a trace are the same.
 */
import type { AttentionTrace } from '../../../sim/trace/attention-trace.ts';
import { ropeFrequencies, rotateRows } from '../../../sim/trace/rope.ts';

/** A stretch of consecutive positions with unrotated queries. */
export interface QueryStretch {
  readonly first: number;
  readonly count: number;
  /** [group] of [count, headDim] */
  readonly heads: readonly Float32Array[];
}

export interface UnrotatedHead {
  readonly headDim: number;
  readonly promptTokens: number;
  /** Passages that the question is about, [from, to); none where not known. */
  readonly evidence: readonly (readonly [number, number])[];
  /** Radians a token of each pair. */
  readonly frequencies: Float64Array;
  /** [tokens, headDim] */
  readonly keys: Float32Array;
  /** The prompt's last queries where recorded, and the answer's. */
  readonly stretches: readonly QueryStretch[];
}

export function unrotateHead(
  trace: AttentionTrace,
  ropeTheta: number,
  layer: number,
  kvHead: number,
  evidence: readonly (readonly [number, number])[] = [],
): UnrotatedHead {
  const { headDim, heads, kvHeads, promptTokens, steps } = trace.shape;
  const group = heads / kvHeads;
  const frequencies = ropeFrequencies(headDim, ropeTheta);
  const back = frequencies.map((angle) => -angle);
  const keys = trace.keys(layer, kvHead).slice();
  rotateRows(keys, keys.length / headDim, back, 0, 1);
  const stretch = (first: number, count: number, rowsAt: (at: number) => Float32Array): QueryStretch => {
    const of = Array.from({ length: group }, () => new Float32Array(count * headDim));
    for (let at = 0; at < count; at++) {
      const rows = rowsAt(at);
      for (const [g, head] of of.entries())
        head.set(rows.subarray(g * headDim, (g + 1) * headDim), at * headDim);
    }
    for (const head of of) rotateRows(head, count, back, first, 1);
    return { first, count, heads: of };
  };
  const stretches = [stretch(promptTokens, steps, (step) => trace.queries(layer, step, kvHead))];
  if (trace.has('qprompt', layer)) {
    const { windowTokens, q } = trace.promptQueries(layer, kvHead);
    const width = group * headDim;
    stretches.unshift(
      stretch(promptTokens - windowTokens, windowTokens, (at) => q.subarray(at * width, (at + 1) * width)),
    );
  }
  return { headDim, promptTokens, evidence, frequencies, keys, stretches };
}

/**
 * A number for each token, the same for equal tokens: before rotation, the first layer's key depends on the token
 * alone. Null where the first layer is not recorded. Keys that agree to 1/8 of their deviation in six random directions
 * count as equal; half precision blurs them less.
 */
export function tokenIdentities(trace: AttentionTrace, ropeTheta: number): Int32Array | null {
  if (!trace.shape.recordedLayers.includes(0) || !trace.has('k', 0)) return null;
  const { headDim } = trace.shape;
  const keys = trace.keys(0, 0).slice();
  const tokens = keys.length / headDim;
  rotateRows(
    keys,
    tokens,
    ropeFrequencies(headDim, ropeTheta).map((angle) => -angle),
    0,
    1,
  );
  const marks: Float64Array[] = [];
  for (let direction = 0; direction < 6; direction++) {
    const values = new Float64Array(tokens);
    let sum = 0;
    let square = 0;
    for (let t = 0; t < tokens; t++) {
      let value = 0;
      // Signs by a fixed rule: as good as random ones here.
      for (let c = 0; c < headDim; c++)
        value +=
          Math.imul(c * 8 + direction + 1, 0x9e3779b1) < 0 ? keys[t * headDim + c] : -keys[t * headDim + c];
      values[t] = value;
      sum += value;
      square += value * value;
    }
    const mean = sum / tokens;
    const step = Math.sqrt(Math.max(1e-12, square / tokens - mean * mean)) / 8;
    marks.push(values.map((value) => Math.round((value - mean) / step)));
  }
  const numbers = new Map<string, number>();
  return Int32Array.from({ length: tokens }, (_, t) => {
    const mark = marks.map((values) => values[t]).join();
    const number = numbers.get(mark) ?? numbers.size;
    numbers.set(mark, number);
    return number;
  });
}
