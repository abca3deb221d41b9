/** Where in a prompt the passage lies that the question is about, as the answer's attention tells. */
import type { AttentionTrace } from '../../../sim/trace/attention-trace.ts';
import { evidenceWindow, regionBounds } from '../synthetic/regions.ts';
import { visitAttention } from './visit.ts';

/** The stretch of the text that gets most attention, mean over sampled layers and steps and all heads, as regionBounds
 * takes it. */
export function evidencePlace(trace: AttentionTrace, questionTokens: number): number {
  const bounds = regionBounds(trace.shape.promptTokens, questionTokens, 0);
  const { tokens, places } = evidenceWindow(bounds);
  const mass = new Float64Array(trace.shape.promptTokens);
  visitAttention(trace, (row) => {
    for (let t = 0; t < mass.length; t++) mass[t] += row[t];
  });
  let sum = 0;
  for (let t = 0; t < tokens && places > 0; t++) sum += mass[bounds.textFrom + t];
  let [best, most] = [0, sum];
  for (let place = 1; place <= places; place++) {
    sum += mass[bounds.textFrom + place + tokens - 1] - mass[bounds.textFrom + place - 1];
    if (sum > most) [best, most] = [place, sum];
  }
  return places === 0 ? 0 : best / places;
}
