/** What the attention of one KV head of a trace comes to: the numbers that a calibrated head is brought to. */
import { attendExactly, createExactAttention } from '../../../sim/quality/exact-attention.ts';
import type { AttentionTrace } from '../../../sim/trace/attention-trace.ts';
import type { MeasuredHead } from '../presets/preset.ts';

const sinkTokens = 4;
const localTokens = 256;

/** Mean over the group's query heads and `steps` of the trace's decode steps, evenly chosen. */
export function measureHead(
  trace: AttentionTrace,
  layer: number,
  kvHead: number,
  steps: number,
): MeasuredHead {
  const { heads, kvHeads, headDim, promptTokens } = trace.shape;
  const group = heads / kvHeads;
  const exact = createExactAttention(group, promptTokens + trace.shape.steps, 0);
  const keys = trace.keys(layer, kvHead);
  const count = Math.min(steps, trace.shape.steps);
  const sum = { massTop1: 0, massTop10: 0, sinkRatio: 0, localRatio: 0 };
  for (let i = 0; i < count; i++) {
    const step = Math.floor(((i + 0.5) * trace.shape.steps) / count);
    const length = promptTokens + step + 1;
    attendExactly(exact, trace.queries(layer, step, kvHead), keys, null, headDim, length);
    for (let g = 0; g < group; g++) {
      const row = exact.probabilities.subarray(g * exact.stride, g * exact.stride + length);
      let sink = 0;
      for (let t = 0; t < Math.min(sinkTokens, length); t++) sink += row[t];
      let local = 0;
      for (let t = Math.max(0, length - localTokens); t < length; t++) local += row[t];
      const rest = row.slice(sinkTokens).sort();
      sum.sinkRatio += sink;
      sum.localRatio += local;
      sum.massTop1 += topShare(rest, 0.01);
      sum.massTop10 += topShare(rest, 0.1);
    }
  }
  const rows = count * group;
  return {
    massTop1: sum.massTop1 / rows,
    massTop10: sum.massTop10 / rows,
    sinkRatio: sum.sinkRatio / rows,
    localRatio: sum.localRatio / rows,
  };
}

/** Share of the mass that the largest `fraction` of an ascending row holds. */
export function topShare(ascending: Float32Array, fraction: number): number {
  const first = ascending.length - Math.floor(ascending.length * fraction);
  let top = 0;
  let all = 0;
  for (let i = 0; i < ascending.length; i++) {
    all += ascending[i];
    if (i >= first) top += ascending[i];
  }
  return all > 0 ? top / all : 0;
}
