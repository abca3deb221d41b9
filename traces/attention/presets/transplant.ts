/**
 * Heads for models that no one captured: a measured head of another model, its rotary pairs taken over by frequency, so
 * that its attention by distance stays what it was, whatever the head's size and base.
 */
import { log } from '../../../sim/engine/math.ts';
import type { Random } from '../../../sim/engine/random.ts';
import type { HeadStatistics } from '../statistics/llama-3.1-8b.ts';
import { type FittedPreset, fittedText } from './fitted.ts';
import type { Attended, HeadPlan, HeadProfile, SyntheticShape, TextProfile } from './preset.ts';
import { preset as qwen } from './qwen2.5-0.5b.ts';
import { preset as smollm2 } from './smollm2-135m.ts';

/** Fitted presets whose heads may be taken. */
const sources: readonly FittedPreset[] = [smollm2, qwen];

/** Tasks that some of them know. */
export const donorTasks: readonly string[] = [...new Set(sources.flatMap(({ tasks }) => tasks))].sort();

/** The text of a task where no fit of the model itself tells it: means over the donors. */
export function donorText(task: string | null): TextProfile {
  const texts = sources
    .filter(({ tasks }) => task === null || tasks.includes(task))
    .map(({ text }) => text(task));
  const mean = (of: (text: TextProfile) => number): number =>
    texts.reduce((total, text) => total + of(text), 0) / texts.length;
  return {
    ...fittedText,
    questionTokens: Math.round(mean(({ questionTokens }) => questionTokens)),
    evidencePlace: mean(({ evidencePlace }) => evidencePlace),
  };
}

interface Donor {
  readonly profile: HeadProfile;
  /** In a task where its model was fitted for it, else in the mean. */
  attended(task: string | null): Attended;
  readonly shape: SyntheticShape;
  /** Place in its model, 0 .. 1, and index of the layer. */
  readonly depth: number;
  readonly layer: number;
}

let known: readonly Donor[] | null = null;

function donors(): readonly Donor[] {
  known ??= sources.flatMap(({ shape, profile, task }) =>
    Array.from({ length: shape.layers * shape.kvHeads }, (_, i) => {
      const layer = Math.floor(i / shape.kvHeads);
      return {
        profile: profile(layer, i % shape.kvHeads),
        attended: (wanted: string | null) => task(wanted).attended(layer, i % shape.kvHeads),
        shape,
        depth: (layer + 0.5) / shape.layers,
        layer,
      };
    }),
  );
  return known;
}

/** How far a donor may stand from the wanted depth, of the nearest so many one is drawn, and weight of the far need. */
const depthWindow = 0.2;
const drawnFrom = 3;
const farWeight = 0.3;
/** The first two layers have hardly any sink and belong together. */
const firstLayers = 2;

/**
 * A plan that is brought to the published concentration of a head, on the geometry of a measured head that comes near
 * it: of about the same depth, with about the same mass in its top keys and the same need of far tokens.
 */
export function planFrom(
  statistics: HeadStatistics,
  shape: SyntheticShape,
  layer: number,
  random: Random,
  task: string | null,
): HeadPlan {
  const { massTop1, massTop10, farScore, farGate } = statistics;
  const depth = (layer + 0.5) / shape.layers;
  const distance = ({ profile, depth: at, layer: own }: Donor): number => {
    const { measured } = profile;
    const near = measured.localRatio + measured.sinkRatio;
    const misplaced = own < firstLayers !== layer < firstLayers || Math.abs(at - depth) > depthWindow;
    const top = Math.abs(measured.massTop1 - massTop1) + Math.abs(measured.massTop10 - massTop10);
    return top + farWeight * Math.abs((farScore + farGate) / 2 - (1 - near)) + (misplaced ? 10 : 0);
  };
  const ranked = donors()
    .map((donor, at) => ({ donor, at, distance: distance(donor) }))
    .sort((a, b) => a.distance - b.distance || a.at - b.at);
  const { donor } = ranked[random.integer(Math.min(drawnFrom, ranked.length))];
  const profile = transplant(donor.profile, donor.shape, shape);
  const own = donor.attended(task);
  // What is not published goes along with what is: the donor's odds, changed as those of the top 1 % are.
  const textTop01 = Math.min(massTop1, sharePerOdds(own.textTop01, massTop1, own.textTop1));
  const textKept = sharePerOdds(own.textKept, massTop1, own.textTop1);
  const textNats = (own.textNats * widthOf(massTop1)) / widthOf(own.textTop1);
  return {
    profile,
    attended: { ...own, textTop01, textTop1: massTop1, textTop10: massTop10, textKept, textNats },
  };
}

/**
 * Standard deviation of normal logits that put such a share of the mass on the heaviest 1 %: that many above the 2.33 where
 * these begin as the share is a normal quantile, here the logistic one over 1.7.
 */
const widthOf = (share: number): number =>
  Math.max(leastWidth, 2.33 + log(Math.max(1e-6, odds(share))) / 1.7);
const leastWidth = 0.5;

const odds = (share: number): number => share / Math.max(1e-6, 1 - share);

/** The share whose odds are to those of `share` as those of `now` to those of `before`. */
function sharePerOdds(share: number, now: number, before: number): number {
  const changed = (odds(share) * odds(now)) / Math.max(1e-6, odds(before));
  return changed / (1 + changed);
}

/**
 * The profile on another shape. A target pair takes the moduli and phases of the donor's pair that turns most nearly as
 * fast; moduli are scaled for the number of pairs an octave and for the head size in the softmax, so that logits of the
 * mean query on the mean key and on keys' deviations keep their size.
 */
export function transplant(profile: HeadProfile, from: SyntheticShape, to: SyntheticShape): HeadProfile {
  const pairs = to.headDim / 2;
  const ownPairs = from.headDim / 2;
  const ratio = log(to.ropeTheta) / log(from.ropeTheta) / (pairs / ownPairs);
  const at = Int32Array.from({ length: pairs }, (_, pair) =>
    Math.min(ownPairs - 1, Math.round(pair * ratio)),
  );
  const size = Math.sqrt(to.headDim / from.headDim);
  const density = ratio;
  const meanScale = Math.sqrt(density * size);
  const keyScale = Math.sqrt(size);
  const queryScale = Math.sqrt(density * size);
  const take = (values: Float64Array, scale: number): Float64Array =>
    Float64Array.from(at, (pair) => values[pair] * scale);
  const takeChannels = (values: Float64Array, scale: number): Float64Array =>
    Float64Array.from({ length: 2 * pairs }, (_, c) => {
      const channel = c < pairs ? at[c] : at[c - pairs] + ownPairs;
      return values[channel] * scale;
    });
  const group = to.heads / to.kvHeads;
  const own = profile.queries.length;
  return {
    ...profile,
    // A chat template's marks are the donor's own.
    marks: 0,
    keyMean: take(profile.keyMean, meanScale),
    keyPhase: take(profile.keyPhase, 1),
    keyDeviation: takeChannels(profile.keyDeviation, keyScale),
    ...transplantFactors(profile, at),
    sinkKey: take(profile.sinkKey, meanScale),
    sinkPhase: take(profile.sinkPhase, 1),
    earlyKey: take(profile.earlyKey, meanScale),
    earlyPhase: take(profile.earlyPhase, 1),
    question: { ...profile.question, shift: takeChannels(profile.question.shift, 1) },
    answer: { ...profile.answer, shift: takeChannels(profile.answer.shift, 1) },
    queries: Array.from({ length: group }, (_, head) => {
      const query = profile.queries[Math.floor((head * own) / group)];
      return {
        mean: take(query.mean, meanScale),
        phase: take(query.phase, 1),
        deviation: takeChannels(query.deviation, queryScale),
        promptShift: takeChannels(query.promptShift, 1),
        self: query.self,
        farSteadiness: query.farSteadiness,
        nearSteadiness: query.nearSteadiness,
      };
    }),
  };
}

/**
 * Loadings of the donor's channels, and a set of factors for each time that a pair is taken: pairs taken from the same one
 * stay independent of each other, as its logits' variance has it.
 */
function transplantFactors(
  { keyLoadings, keySets, keyMean }: HeadProfile,
  at: Int32Array,
): Pick<HeadProfile, 'keyLoadings' | 'keySets'> {
  const [pairs, ownPairs] = [at.length, keyMean.length];
  const factors = keyLoadings.length / (2 * ownPairs);
  const loadings = new Float64Array(2 * pairs * factors);
  const sets = new Int32Array(pairs);
  for (let pair = 0; pair < pairs; pair++) {
    sets[pair] = pair > 0 && at[pair] === at[pair - 1] ? sets[pair - 1] + 1 : keySets[at[pair]];
    for (const half of [0, 1]) {
      const from = (at[pair] + half * ownPairs) * factors;
      loadings.set(keyLoadings.subarray(from, from + factors), (pair + half * pairs) * factors);
    }
  }
  return { keyLoadings: loadings, keySets: sets };
}
