/**
 * The directions of one KV head: where its keys have their common mean, their topics, their sink and their salient
 * tokens, and which rotary pairs carry its positional kernel. Content lives in the slowest quarter of the pairs, which
 * hardly turn over the context; position lives in the others, whose rotation itself makes attention decay or repeat.
 */
import type { Random } from '../../../sim/engine/random.ts';
import type { HeadTarget, KeyProfile } from '../presets/preset.ts';

export interface HeadGeometry {
  /** Mean of all keys before rotation [headDim]. */
  readonly mean: Float64Array;
  /** The part of the mean in the slow pairs, which all positions share after rotation. */
  readonly slowMean: Float64Array;
  /** Orthonormal rows [rank, headDim] that carry the topic coefficients. */
  readonly topicMap: Float64Array;
  /** Unit vectors in the slowest pair: the sink's and the salient tokens'. */
  readonly sinkAxis: Float64Array;
  readonly salientAxis: Float64Array;
  /** Query direction whose logit against the mean is 1 at distance 0, over sqrt(headDim). */
  readonly kernel: Float64Array;
  /** Standard deviation of token noise in each channel: small where the kernel reads position. */
  readonly noise: Float64Array;
  readonly valueMean: Float64Array;
  readonly valueMap: Float64Array;
  /** How salient each token identity is: 0 for most, else about 1. */
  readonly salience: Float32Array;
}

/** First pair of the content band: the slowest quarter, at least one pair. */
export const contentPair = (headDim: number): number =>
  Math.min(headDim / 2 - 1, Math.floor((headDim / 2) * 0.75));

/** Channels that topics may use; the slowest pair is kept for sink and salience where there is more than one. */
function topicChannels(headDim: number): readonly number[] {
  const pairs = headDim / 2;
  const first = contentPair(headDim);
  const end = pairs - first > 1 ? pairs - 1 : pairs;
  const slow = Array.from({ length: end - first }, (_, i) => first + i);
  return [...slow, ...slow.map((pair) => pair + pairs)];
}

/** Latent dimensions that fit this head size. */
export const topicRank = (headDim: number, wanted: number): number =>
  Math.min(wanted, topicChannels(headDim).length);

/** Draws a head. `functionWords` and `vocabulary` say which token identities may be salient. */
export function drawGeometry(
  headDim: number,
  frequencies: Float64Array,
  target: HeadTarget,
  keys: KeyProfile,
  text: { readonly vocabulary: number; readonly functionWords: number },
  random: Random,
): HeadGeometry {
  const { mean, slowMean } = drawMean(headDim, keys, random);
  const rank = topicRank(headDim, keys.topicRank);
  const sinkAxis = new Float64Array(headDim);
  const salientAxis = new Float64Array(headDim);
  sinkAxis[headDim / 2 - 1] = 1;
  salientAxis[headDim - 1] = 1;
  const all = Array.from({ length: headDim }, (_, channel) => channel);
  const salience = new Float32Array(text.vocabulary);
  for (let type = text.functionWords; type < text.vocabulary; type++) {
    if (random.uniform() < keys.salientRatio) salience[type] = 0.9 + 0.2 * random.uniform();
  }
  const kernel = kernelOf(mean, frequencies, target);
  return {
    mean,
    slowMean,
    topicMap: orthonormalRows(rank, headDim, topicChannels(headDim), random),
    sinkAxis,
    salientAxis,
    kernel,
    noise: kernel.map((x) => (x === 0 ? 1 : keys.kernelNoise)),
    valueMean: Float64Array.from({ length: headDim }, () => 0.3 * random.normal()),
    valueMap: orthonormalRows(rank, headDim, all, random),
    salience,
  };
}

/** Normal in the turning pairs; a few outlier channels (cubes of normals) in the slow ones, as real keys have. */
function drawMean(
  headDim: number,
  keys: KeyProfile,
  random: Random,
): { mean: Float64Array; slowMean: Float64Array } {
  const mean = new Float64Array(headDim);
  const slowMean = new Float64Array(headDim);
  const pairs = headDim / 2;
  for (let pair = 0; pair < contentPair(headDim); pair++) {
    mean[pair] = keys.turningMean * random.normal();
    mean[pair + pairs] = keys.turningMean * random.normal();
  }
  let square = 0;
  for (const channel of topicChannels(headDim)) {
    const normal = random.normal();
    slowMean[channel] = normal * normal * normal;
    square += slowMean[channel] * slowMean[channel];
  }
  const scale = keys.meanScale * Math.sqrt(headDim / square);
  for (let channel = 0; channel < headDim; channel++) {
    slowMean[channel] *= scale;
    mean[channel] += slowMean[channel];
  }
  return { mean, slowMean };
}

/** Gram-Schmidt on normal draws over the given channels. */
function orthonormalRows(
  rank: number,
  headDim: number,
  channels: readonly number[],
  random: Random,
): Float64Array {
  const rows = new Float64Array(rank * headDim);
  for (let row = 0; row < rank; row++) {
    const v = rows.subarray(row * headDim, (row + 1) * headDim);
    for (const channel of channels) v[channel] = random.normal();
    for (let before = 0; before < row; before++) {
      const u = rows.subarray(before * headDim, (before + 1) * headDim);
      const along = dot(u, v);
      for (const channel of channels) v[channel] -= along * u[channel];
    }
    const norm = Math.sqrt(dot(v, v));
    for (const channel of channels) v[channel] /= norm;
  }
  return rows;
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/**
 * The mean's own direction in the pairs that tell the wanted distances apart: evenly over the logarithm of the
 * periods up to 64 times the reach, which decays like a power of the distance; for periodic heads mostly the pair whose
 * period comes nearest.
 */
function kernelOf(mean: Float64Array, frequencies: Float64Array, target: HeadTarget): Float64Array {
  const pairs = frequencies.length;
  const positional = Math.max(1, contentPair(2 * pairs));
  const weights = Float64Array.from({ length: positional }, (_, pair) =>
    2 * Math.PI <= frequencies[pair] * 64 * target.kernelTokens ? 1 : 0,
  );
  if (weights.reduce((sum, weight) => sum + weight, 0) < 2) weights.fill(1);
  if (target.class === 'periodic') {
    const wanted = (2 * Math.PI) / target.kernelTokens;
    let nearest = 0;
    for (let pair = 1; pair < positional; pair++) {
      if (Math.abs(frequencies[pair] - wanted) < Math.abs(frequencies[nearest] - wanted)) nearest = pair;
    }
    weights[nearest] = 8;
  }
  const kernel = new Float64Array(2 * pairs);
  let peak = 0;
  for (let pair = 0; pair < positional; pair++) {
    const amplitude = Math.sqrt(mean[pair] * mean[pair] + mean[pair + pairs] * mean[pair + pairs]);
    kernel[pair] = (weights[pair] * mean[pair]) / amplitude;
    kernel[pair + pairs] = (weights[pair] * mean[pair + pairs]) / amplitude;
    peak += weights[pair] * amplitude;
  }
  const scale = Math.sqrt(2 * pairs) / peak;
  return kernel.map((x) => x * scale);
}
