/**
 * The profile of one KV head from captured traces: means and deviations of its keys and queries before rotation, how
 * far they stay the same along the text, and corrections in the few directions in which channels are not independent.
 * Moments of first and second order; salience is the one of higher order.
 */
import type { HeadProfile, MeasuredHead, QueryProfile } from '../presets/preset.ts';
import { axisOf, groupMean } from '../synthetic/geometry.ts';
import { meanFarKey } from '../synthetic/rope.ts';
import { agreementOf, coherenceOf, identityShare } from './coherence.ts';
import { type FitSource, skippedTokens } from './fit-source.ts';
import { answerRegion, fitLandmark, questionRegion } from './landmark-fit.ts';
import { sinkPull } from './landmarks.ts';
import { fitPull, selfCorrelation, steadinessAlong } from './logits.ts';
import { channelDeviations, meanRows, polar, spreadOf, turnRows } from './moments.ts';

/** Prompts' ends and answers are too short to tell how far equal tokens ask alike: assumed. */
const queryIdentity = 0.2;

const averageTarget = (targets: readonly MeasuredHead[]): MeasuredHead => {
  const mean = (of: (target: MeasuredHead) => number): number =>
    targets.reduce((sum, target) => sum + of(target), 0) / targets.length;
  return {
    massTop1: mean(({ massTop1 }) => massTop1),
    massTop10: mean(({ massTop10 }) => massTop10),
    sinkRatio: mean(({ sinkRatio }) => sinkRatio),
    localRatio: mean(({ localRatio }) => localRatio),
  };
};

/** Turns all keys and queries so that the mean key lies along the first channel of each pair; returns its moduli. */
function alignPairs(sources: readonly FitSource[]): Float64Array {
  const { headDim } = sources[0].head;
  const mean = meanRows(
    headDim,
    sources.map(({ head }) => head.keys.subarray(skippedTokens * headDim)),
  );
  for (const { head } of sources) {
    turnRows(head.keys, mean);
    for (const { heads } of head.stretches) for (const rows of heads) turnRows(rows, mean);
  }
  return polar(mean).modulus;
}

/**
 * Moves each prompt's ordinary keys, and each stretch's queries, to the common mean. Prompts differ in their means, but
 * keys and queries of a prompt differ together: as variance inside a prompt it would draw attention at random.
 */
function centre(blocks: readonly Float32Array[], mean: Float64Array): void {
  const width = mean.length;
  for (const rows of blocks) {
    const own = meanRows(width, [rows]);
    for (let i = 0; i < rows.length; i++) rows[i] += mean[i % width] - own[i % width];
  }
}

/** Changes the arrays of the sources: they are turned in place. */
export function fitHead(sources: readonly FitSource[]): HeadProfile {
  const { headDim, frequencies } = sources[0].head;
  const moduli = alignPairs(sources);
  const keyMean = new Float64Array(headDim);
  keyMean.set(moduli);
  const ordinary = sources.map(({ head }) => head.keys.subarray(skippedTokens * headDim));
  centre(ordinary, keyMean);
  const keyDeviation = channelDeviations(keyMean, ordinary);
  const sinkKey = meanRows(
    headDim,
    sources.map(({ head }) => head.keys.subarray(0, headDim)),
  );
  const sink = polar(sinkKey);
  const group = sources[0].head.stretches[0].heads.length;
  const stretchesOf = (g: number): readonly Float32Array[] =>
    sources.flatMap(({ head }) => head.stretches.map(({ heads }) => heads[g]));
  const answersOf = (g: number): readonly Float32Array[] =>
    sources.map(({ head }) => head.stretches[head.stretches.length - 1].heads[g]);
  const promptsOf = (g: number): readonly Float32Array[] =>
    sources.flatMap(({ head }) => head.stretches.slice(0, -1).map(({ heads }) => heads[g]));
  const means = Array.from({ length: group }, (_, g) => meanRows(headDim, answersOf(g)));
  const promptMeans = means.map((mean, g) => {
    const prompts = promptsOf(g);
    return prompts.length === 0 ? mean : meanRows(headDim, prompts);
  });
  for (const [g, mean] of means.entries()) centre(stretchesOf(g), mean);
  const deviations = means.map((mean, g) => channelDeviations(mean, stretchesOf(g)));
  const meanQuery = groupMean(Float64Array.from(means.flatMap((mean) => Array.from(mean))), headDim);
  const keySteadiness = steadinessAlong(axisOf(meanQuery, keyDeviation), keyMean, keyDeviation, ordinary);
  const pull = fitPull(sources, keyMean, keyDeviation, keySteadiness, means);
  const scaled = keyDeviation.map((x) => x * pull.scale);
  const keyCoherence = coherenceOf(
    ordinary.map((rows) => [rows]),
    [keyMean],
    [keyDeviation],
    identityShare(sources, keyMean, keyDeviation),
  );
  const queryCoherence = coherenceOf(
    sources.flatMap(({ head }) => head.stretches.map(({ heads }) => heads)),
    means,
    deviations,
    queryIdentity,
  );
  const promptTokens = Math.max(...sources.map(({ head }) => head.promptTokens));
  const farKey = meanFarKey(keyMean, frequencies, promptTokens);
  const nearKey = keyMean.map((x, c) => x - farKey[c]);
  const queries = means.map((mean, g): QueryProfile => {
    const { modulus, phase } = polar(mean);
    const steadiness = (key: Float64Array): number =>
      steadinessAlong(axisOf(key, deviations[g]), mean, deviations[g], stretchesOf(g));
    return {
      mean: modulus,
      phase,
      deviation: deviations[g],
      promptShift: promptMeans[g].map((x, c) => (x - mean[c]) / deviations[g][c]),
      self: selfCorrelation(sources, g, mean, keyMean, deviations[g], keyDeviation),
      farSteadiness: steadiness(farKey),
      nearSteadiness: steadiness(nearKey),
    };
  });
  return {
    keyMean: moduli,
    keyDeviation: scaled,
    keySpread: spreadOf(keyMean, keyDeviation, ordinary),
    keySteadiness,
    sinkKey: sink.modulus,
    sinkPhase: sink.phase,
    ...sinkPull(sources, keyMean, sinkKey),
    queries,
    keyCoherence,
    queryCoherence,
    agreement: agreementOf(sources, means, deviations),
    salientRatio: pull.salientRatio,
    salientNats: pull.salientNats,
    question: fitLandmark(sources, questionRegion, keyMean, scaled),
    answer: fitLandmark(sources, answerRegion, keyMean, scaled),
    measured: averageTarget(sources.map(({ measured }) => measured)),
  };
}
