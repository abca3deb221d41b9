/**
 * What logits say of channels that are not independent: how much they vary along single directions, what a query sees
 * in its own token, and how heavy the tail of always heavy tokens is.
 */
import { exp, log } from '../../../sim/engine/math.ts';
import { rotateRows } from '../../../sim/trace/rope.ts';
import type { Axis } from '../synthetic/geometry.ts';
import { type FitSource, skippedTokens } from './fit-source.ts';
import { square } from './moments.ts';

/** Standard deviation of rows about `mean` along an axis, over what independent channels would give. */
export function steadinessAlong(
  { along }: Axis,
  mean: Float64Array,
  deviation: Float64Array,
  blocks: readonly Float32Array[],
): number {
  const width = along.length;
  let independent = 0;
  for (let c = 0; c < width; c++) independent += square(along[c] * deviation[c]);
  if (independent === 0) return 1;
  let variance = 0;
  for (const rows of blocks) {
    const count = rows.length / width;
    for (let at = 0; at < rows.length; at += width) {
      let sum = 0;
      for (let c = 0; c < width; c++) sum += (rows[at + c] - mean[c]) * along[c];
      variance += (sum * sum) / count / blocks.length;
    }
  }
  return Math.sqrt(variance / independent);
}

/** Correlation of a query head's deviations with those of its own tokens' keys, channel by channel. */
export function selfCorrelation(
  sources: readonly FitSource[],
  g: number,
  mean: Float64Array,
  keyMean: Float64Array,
  deviation: Float64Array,
  keyDeviation: Float64Array,
): number {
  const width = mean.length;
  let bound = 0;
  for (let c = 0; c < width; c++) bound += deviation[c] * keyDeviation[c];
  let product = 0;
  let stretches = 0;
  for (const { head } of sources) {
    for (const { first, count, heads } of head.stretches) {
      const rows = heads[g];
      stretches++;
      for (let i = 0; i < rows.length; i++) {
        const c = i % width;
        product += ((rows[i] - mean[c]) * (head.keys[first * width + i] - keyMean[c])) / count;
      }
    }
  }
  return product / stretches / bound;
}

export interface Salience {
  readonly salientRatio: number;
  readonly salientNats: number;
}

/** Nearest keys, left out. */
const nearTokens = 64;
/** Far keys looked at: of a longer prompt some. */
const mostFarKeys = 8192;
/** Queries looked at in each stretch. */
const sampledQueries = 4;

/**
 * The logits of keys' deviations over far keys, each weighed by what its distance gives it, under sampled queries: their
 * variance and third moment, and their pull, the logarithm of the mean of their exponentials, which says how much mass
 * they attract. Salient tokens are what a normal tail lacks of it.
 */
export function fitSalience(sources: readonly FitSource[], keyMean: Float64Array): Salience {
  const width = keyMean.length;
  const sum = { variance: 0, third: 0, pull: 0, count: 0 };
  for (const { head } of sources) {
    for (const { first, count, heads } of head.stretches) {
      const stride = Math.max(1, Math.floor(count / sampledQueries));
      for (let at = stride >> 1; at < count; at += stride) {
        for (const rows of heads) {
          const query = rows.subarray(at * width, (at + 1) * width);
          const far = weighFar(head, keyMean, query, first + at);
          const shape = weightedShape(far.logits, far.weights);
          sum.variance += shape.variance;
          sum.third += shape.third;
          sum.pull += shape.pull;
          sum.count++;
        }
      }
    }
  }
  return salienceOf(sum.variance / sum.count, sum.third / sum.count, sum.pull / sum.count);
}

interface FarKeys {
  /** What the mean key's logit at its distance gives each key, up to a factor. */
  readonly weights: Float64Array;
  /** Logit of each key's deviation. */
  readonly logits: Float64Array;
}

function weighFar(
  head: FitSource['head'],
  keyMean: Float64Array,
  query: Float32Array,
  position: number,
): FarKeys {
  const { keys, promptTokens, frequencies } = head;
  const width = keyMean.length;
  const far = promptTokens - nearTokens - skippedTokens;
  const stride = Math.max(1, Math.floor(far / mostFarKeys));
  const count = Math.floor(far / stride);
  const turned = new Float32Array(count * width);
  for (let at = 0; at < turned.length; at += width) turned.set(query, at);
  rotateRows(turned, count, frequencies, position - skippedTokens, -stride);
  const scale = 1 / Math.sqrt(width);
  const kernel = new Float64Array(count);
  const logits = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const at = i * width;
    const own = (skippedTokens + i * stride) * width;
    for (let c = 0; c < width; c++) {
      const q = turned[at + c] * scale;
      kernel[i] += q * keyMean[c];
      logits[i] += q * (keys[own + c] - keyMean[c]);
    }
  }
  const most = kernel.reduce((a, b) => Math.max(a, b));
  const weights = kernel.map((x, i) => {
    const token = skippedTokens + i * stride;
    return head.evidence.some(([from, to]) => token >= from && token < to) ? 0 : exp(x - most);
  });
  return { weights, logits };
}

function weightedMean(values: Float64Array, weights: Float64Array): number {
  let [sum, all] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    sum += weights[i] * values[i];
    all += weights[i];
  }
  return sum / all;
}

function weightedShape(
  logits: Float64Array,
  weights: Float64Array,
): { readonly variance: number; readonly third: number; readonly pull: number } {
  const mean = weightedMean(logits, weights);
  const most = logits.reduce((a, b) => Math.max(a, b));
  return {
    variance: weightedMean(
      logits.map((x) => square(x - mean)),
      weights,
    ),
    third: weightedMean(
      logits.map((x) => square(x - mean) * (x - mean)),
      weights,
    ),
    pull:
      log(
        weightedMean(
          logits.map((x) => exp(x - most)),
          weights,
        ),
      ) +
      most -
      mean,
  };
}

/** Salient tokens are sought up to this many nats, and never more than this share. */
const mostNats = 24;
const mostSalient = 0.05;

/**
 * Normal logits of variance w with a share r of tokens m nats above them: r m³ is their third moment, w + r m² their
 * variance, w / 2 + log(1 + r (e^m - 1)) their pull. The m that gives the measured pull; none where the tail is light.
 */
function salienceOf(variance: number, third: number, pull: number): Salience {
  if (third <= 0 || pull <= variance / 2 + third / 6) return { salientRatio: 0, salientNats: 0 };
  const ratioAt = (nats: number): number => Math.min(mostSalient, third / (nats * nats * nats));
  const pullAt = (nats: number): number =>
    Math.max(0, variance - ratioAt(nats) * nats * nats) / 2 + log(1 + ratioAt(nats) * (exp(nats) - 1));
  let [low, high] = [Math.sqrt(variance), mostNats];
  for (let i = 0; i < 30; i++) {
    const middle = (low + high) / 2;
    if (pullAt(middle) > pull) high = middle;
    else low = middle;
  }
  return { salientRatio: ratioAt(low), salientNats: low };
}
