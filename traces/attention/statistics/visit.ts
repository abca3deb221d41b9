/** Attention of an answer at sampled layers and steps: what is looked at to learn how a prompt is laid out. */
import { attendExactly, createExactAttention } from '../../../sim/quality/exact-attention.ts';
import type { AttentionTrace } from '../../../sim/trace/attention-trace.ts';

const sampledLayers = 4;
const sampledSteps = 8;

/** Calls `visit` with the attention of each query head over all tokens so far; the row is overwritten by the next. */
export function visitAttention(trace: AttentionTrace, visit: (row: Float32Array) => void): void {
  const { heads, kvHeads, headDim, promptTokens, steps, recordedLayers } = trace.shape;
  const group = heads / kvHeads;
  const exact = createExactAttention(group, promptTokens + steps, 0);
  for (let i = 0; i < sampledLayers; i++) {
    const layer = recordedLayers[Math.floor(((i + 0.5) * recordedLayers.length) / sampledLayers)];
    for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
      const keys = trace.keys(layer, kvHead);
      for (let s = 0; s < sampledSteps; s++) {
        const step = Math.floor(((s + 0.5) * steps) / sampledSteps);
        const length = promptTokens + step + 1;
        attendExactly(exact, trace.queries(layer, step, kvHead), keys, null, headDim, length);
        for (let g = 0; g < group; g++)
          visit(exact.probabilities.subarray(g * exact.stride, g * exact.stride + length));
      }
    }
  }
}
