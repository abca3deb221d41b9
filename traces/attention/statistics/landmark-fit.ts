/**
 * How far the keys of a question and of an answer lie from those of other text, beyond what any stretch of text of that
 * length would.
 */

import { rotateRows } from '../../../sim/trace/rope.ts';
import type { Landmark } from '../presets/preset.ts';
import { type FitSource, skippedTokens } from './fit-source.ts';
import { square } from './moments.ts';

/** Steps between the queries looked at, and nearest tokens left out: a query's own is told apart. */
const stepStride = 4;
const nearestTokens = 4;
/** Fewer tokens have no variance to speak of. */
const leastTokens = 4;
/** Stretches of ordinary text that a landmark is held against. */
const comparedStretches = 12;

/** Tokens [from, to) that are the landmark, and the first step whose query looks back at all of them. */
interface Region {
  readonly from: number;
  readonly to: number;
  readonly firstStep: number;
}

export const questionRegion = ({ head: { promptTokens }, questionTokens }: FitSource): Region => ({
  from: promptTokens - questionTokens,
  to: promptTokens,
  firstStep: nearestTokens,
});

/** The answer's first half, as its second half sees it. */
export const answerRegion = ({ head: { promptTokens, stretches } }: FitSource): Region => {
  const tokens = stretches[stretches.length - 1].count >> 1;
  return { from: promptTokens, to: promptTokens + tokens, firstStep: tokens + nearestTokens };
};

export function fitLandmark(
  sources: readonly FitSource[],
  regionOf: (source: FitSource) => Region,
  keyMean: Float64Array,
  keyDeviation: Float64Array,
): Landmark {
  const shift = new Float64Array(keyMean.length);
  let [chance, excess] = [0, 0];
  for (const source of sources) {
    const region = regionOf(source);
    const { from, to } = region;
    if (to - from < leastTokens) continue;
    const own = stretchMean(source, from, to, keyMean, keyDeviation);
    for (let c = 0; c < own.length; c++) shift[c] += own[c] / sources.length;
    const starts = comparedStarts(source, to - from);
    for (const start of starts) {
      const other = stretchMean(source, start, start + to - from, keyMean, keyDeviation);
      chance += squareOf(other) / starts.length;
      excess -= standingVariance(source, region, start, keyMean) / starts.length / sources.length;
    }
    excess += standingVariance(source, region, from, keyMean) / sources.length;
  }
  // The mean of so many prompts has this much of what any stretch would have.
  const random = chance / square(sources.length);
  const share = Math.max(0, 1 - random / Math.max(1e-12, squareOf(shift)));
  return { shift: shift.map((x) => x * share), spreadNats: Math.sqrt(Math.max(0, excess)) };
}

/** Starts of stretches of `tokens`, evenly over the ordinary text. */
function comparedStarts(
  { head: { promptTokens }, questionTokens }: FitSource,
  tokens: number,
): readonly number[] {
  const room = promptTokens - questionTokens - tokens - skippedTokens;
  if (room <= 0) return [];
  return Array.from(
    { length: comparedStretches },
    (_, i) => skippedTokens + Math.floor(((i + 0.5) * room) / comparedStretches),
  );
}

/**
 * Variance between keys from `start`, put in the region's place, of their deviations' logits averaged over the steps:
 * what stands out for good. Mean over query heads.
 */
function standingVariance(source: FitSource, region: Region, start: number, keyMean: Float64Array): number {
  const { stretches } = source.head;
  const { count, heads } = stretches[stretches.length - 1];
  let variance = 0;
  for (let g = 0; g < heads.length; g++) {
    const mean = new Float64Array(region.to - region.from);
    for (let step = region.firstStep; step < count; step += stepStride)
      logitsAt(source, g, step, region, start, keyMean).forEach((x, i) => {
        mean[i] += x;
      });
    const steps = Math.max(1, Math.ceil((count - region.firstStep) / stepStride));
    variance += varianceOf(mean) / square(steps) / heads.length;
  }
  return variance;
}

/** Mean deviation of keys [from, to) in standard deviations. */
function stretchMean(
  { head }: FitSource,
  from: number,
  to: number,
  keyMean: Float64Array,
  keyDeviation: Float64Array,
): Float64Array {
  const width = keyMean.length;
  const mean = new Float64Array(width);
  for (let i = from * width; i < to * width; i++) mean[i % width] += head.keys[i] / (to - from);
  return mean.map((x, c) => (x - keyMean[c]) / keyDeviation[c]);
}

const meanOf = (values: Float64Array): number => values.reduce((a, b) => a + b) / values.length;

const squareOf = (values: Float64Array): number => values.reduce((sum, x) => sum + x * x, 0);

function varianceOf(values: Float64Array): number {
  const mean = meanOf(values);
  return values.reduce((sum, x) => sum + square(x - mean), 0) / (values.length - 1);
}

/** Logits of the deviations of as many keys from `start`, in the place of the keys [from, to), under the query of a step. */
function logitsAt(
  { head }: FitSource,
  g: number,
  step: number,
  { from, to }: Region,
  start: number,
  keyMean: Float64Array,
): Float64Array {
  const { keys, promptTokens, frequencies, stretches, headDim } = head;
  const query = stretches[stretches.length - 1].heads[g].subarray(step * headDim, (step + 1) * headDim);
  const turned = new Float32Array((to - from) * headDim);
  for (let at = 0; at < turned.length; at += headDim) turned.set(query, at);
  rotateRows(turned, to - from, frequencies, promptTokens + step - from, -1);
  const scale = 1 / Math.sqrt(headDim);
  return Float64Array.from({ length: to - from }, (_, i) => {
    let logit = 0;
    for (let c = 0; c < headDim; c++)
      logit += turned[i * headDim + c] * (keys[(start + i) * headDim + c] - keyMean[c]);
    return logit * scale;
  });
}
