/**
 * What rotary position embedding (sim/trace/rope.ts) does to the keys that a generator makes: the base that reaches over
 * a long context, and how the mean key looks from far away.
 */
import { cos, exp, log, sin } from '../../../sim/engine/math.ts';

/**
 * The base at which the slowest quarter of the pairs turns at most a quarter turn over `tokens`, if the model's own is
 * smaller: what long-context fine-tuning does, so that content can be matched at any distance.
 */
export function effectiveTheta(theta: number, tokens: number): number {
  const reach = (2 * tokens) / Math.PI;
  return reach <= 1 ? theta : Math.max(theta, exp((log(reach) * 4) / 3));
}

/**
 * The mean key as a query at the end of the prompt meets it on average over far keys: the pairs that turn often cancel.
 * Unrotated, relative to the query's position.
 */
export function meanFarKey(
  keyMean: Float64Array,
  frequencies: Float64Array,
  promptTokens: number,
): Float64Array {
  const pairs = frequencies.length;
  const samples = 256;
  const key = new Float64Array(2 * pairs);
  for (let pair = 0; pair < pairs; pair++) {
    let [x, y] = [0, 0];
    for (let i = 0; i < samples; i++) {
      const angle = frequencies[pair] * (((i + 0.5) / samples) * promptTokens);
      x += cos(angle) / samples;
      y -= sin(angle) / samples;
    }
    key[pair] = keyMean[pair] * x - keyMean[pair + pairs] * y;
    key[pair + pairs] = keyMean[pair] * y + keyMean[pair + pairs] * x;
  }
  return key;
}
