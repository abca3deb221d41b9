/** How many of a prompt's last tokens hold the question, as the answer's attention tells them from the text before. */
import { log } from '../../../sim/engine/math.ts';
import type { AttentionTrace } from '../../../sim/trace/attention-trace.ts';
import { visitAttention } from './visit.ts';

/** Longest and shortest question, a chat template's marks with it. */
const mostTokens = 64;
const leastTokens = 4;

/**
 * The split of the last tokens into text and question at which the logarithms of their mean attention differ most:
 * largest variance between the two parts. Mean over sampled layers and steps and all heads.
 */
export function questionLength(trace: AttentionTrace): number {
  const mass = tailMass(trace);
  const logs = mass.map((x) => log(Math.max(x, 1e-12)));
  const total = logs.reduce((a, b) => a + b, 0);
  let [best, tokens] = [-1, leastTokens];
  let sum = 0;
  for (let count = 1; count < logs.length; count++) {
    sum += logs[count - 1];
    if (count < leastTokens) continue;
    const difference = sum / count - (total - sum) / (logs.length - count);
    const between = count * (logs.length - count) * difference * difference;
    if (difference > 0 && between > best) [best, tokens] = [between, count];
  }
  return tokens;
}

/** Attention that the last tokens of the prompt get in the answer, the last token first. */
function tailMass(trace: AttentionTrace): Float64Array {
  const { promptTokens } = trace.shape;
  const mass = new Float64Array(Math.min(2 * mostTokens, Math.max(leastTokens + 1, promptTokens >> 1)));
  visitAttention(trace, (row) => {
    for (let at = 0; at < mass.length; at++) mass[at] += row[promptTokens - 1 - at];
  });
  return mass;
}
