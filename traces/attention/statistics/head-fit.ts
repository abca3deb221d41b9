/**
 * The profile of one KV head from captured traces: means and deviations of its keys and queries before rotation, how
 * far they stay the same along the text, and how channels go together.
 * Moments of first and second order; salience is the one of higher order.
 */
import type { Coherence, HeadProfile, MeasuredHead, QueryProfile } from '../presets/preset.ts';
import { axisOf } from '../synthetic/geometry.ts';
import { meanFarKey } from '../synthetic/rope.ts';
import { logitWeights } from '../synthetic/roundness.ts';
import { agreementOf, coherenceOf, identityShare, logitShares, splitCoherence } from './coherence.ts';
import { fitFactors } from './factors.ts';
import { type FitSource, skippedTokens } from './fit-source.ts';
import { answerRegion, fitLandmark, questionRegion } from './landmark-fit.ts';
import { sinkPull } from './landmarks.ts';
import { fitSalience, selfCorrelation, steadinessAlong } from './logits.ts';
import { channelDeviations, meanRows, polar, square } from './moments.ts';

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

/** Changes the arrays of the sources: they are moved in place. */
export function fitHead(sources: readonly FitSource[]): HeadProfile {
  const { headDim, frequencies } = sources[0].head;
  const ordinary = sources.map(({ head }) => head.keys.subarray(skippedTokens * headDim));
  const keyMean = meanRows(headDim, ordinary);
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
  const weights = deviations.map((deviation) => logitShares(deviation, keyDeviation));
  // Of answers only: a question's queries change faster than what is written token by token.
  const queryCoherence = coherenceOf(
    sources.map(({ head }) => head.stretches[head.stretches.length - 1].heads),
    means,
    means.map((mean, g) => channelDeviations(mean, answersOf(g))),
    queryIdentity,
    weights,
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
  const keyWeights = logitWeights({ keyDeviation, queries });
  const keyLoadings = fitFactors(ordinary, keyMean, keyDeviation, keyWeights);
  const coherenceBy = (weights: Float64Array): Coherence =>
    coherenceOf(
      ordinary.map((rows) => [rows]),
      [keyMean],
      [keyDeviation],
      identityShare(sources, keyMean, keyDeviation, weights),
      [weights],
    );
  return {
    keyMean: polar(keyMean).modulus,
    keyPhase: polar(keyMean).phase,
    keyDeviation,
    keyLoadings,
    keySets: new Int32Array(headDim / 2),
    sinkKey: sink.modulus,
    sinkPhase: sink.phase,
    ...sinkPull(sources, keyMean, sinkKey, keyDeviation),
    queries,
    ...splitCoherence(coherenceBy, keyLoadings, keyWeights),
    queryCoherence,
    agreement: agreementOf(sources, means, deviations, weights),
    ...fitSalience(sources, keyMean),
    question: fitLandmark(sources, questionRegion, keyMean, keyDeviation),
    answer: fitLandmark(sources, answerRegion, keyMean, keyDeviation),
    measured: averageTarget(sources.map(({ measured }) => measured)),
  };
}

/** Size of the deviations of a prompt's text from the mean key, over the profile's, in the channels that logits hang on. */
export function textSpread({ head, questionTokens }: FitSource, profile: HeadProfile): number {
  const { headDim, keys, promptTokens } = head;
  const rows = keys.subarray(skippedTokens * headDim, (promptTokens - questionTokens) * headDim);
  if (rows.length === 0) return 1;
  const own = channelDeviations(meanRows(headDim, [rows]), [rows]);
  const weights = logitWeights(profile);
  const energy = weights.reduce(
    (sum, weight, c) => sum + weight * square(own[c] / profile.keyDeviation[c]),
    0,
  );
  return Math.sqrt(energy / headDim);
}
