/**
 * What a preset of the synthetic generator says: the model's shape, the coherence of the text, and for each KV head the
 * first and second moments of its keys and queries before rotation. All numbers that shape a synthetic trace live in
 * presets. A rotary pair's mean is told as a complex number.
 */
import type { Random } from '../../../sim/engine/random.ts';

export interface SyntheticShape {
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly ropeTheta: number;
}

/** Shares of a unit variance by how far along the text it stays the same; what is left is new at every token. */
export interface Coherence {
  /** The same at every occurrence of a token. */
  readonly identity: number;
  /** The same over a word, a sentence, a passage (mean lengths in TextProfile). */
  readonly word: number;
  readonly sentence: number;
  readonly passage: number;
}

/**
 * Queries of one head of a group. Arrays of moduli and phases have an entry per rotary pair, deviations one per channel:
 * the first of each pair, then the second.
 */
export interface QueryProfile {
  /** Mean query of an answer: modulus, and phase in radians. */
  readonly mean: Float64Array;
  readonly phase: Float64Array;
  /** Standard deviation of each channel. */
  readonly deviation: Float64Array;
  /** How far the mean query at the end of the prompt is from an answer's, in standard deviations of each channel. */
  readonly promptShift: Float64Array;
  /** Correlation of a query's deviation with its own token's key, -1 .. 1: what a token sees in itself and its likes. */
  readonly self: number;
  /**
   * How much the logit on the mean far key varies, and how much that on the mean near key varies beside it, over what
   * independent channels would give. Below 1 where what is new in a query is kept out of the directions that tell near
   * tokens and sinks from the rest.
   */
  readonly farSteadiness: number;
  readonly nearSteadiness: number;
}

/** Tokens that stand out from the rest of the text: their keys have a mean of their own. */
export interface Landmark {
  /** How far their mean key is from that of other tokens, in standard deviations of each channel. */
  readonly shift: Float64Array;
  /** Standard deviation of their logits under an answer's queries, beyond what their keys' deviations give. */
  readonly spreadNats: number;
}

/** Factors that keys' channels share, of a head of this size. */
export const keyFactors = (headDim: number): number => Math.min(12, headDim >> 2);

export interface HeadProfile {
  /** Mean key: modulus and phase of each pair. */
  readonly keyMean: Float64Array;
  readonly keyPhase: Float64Array;
  /** Standard deviation of each channel. */
  readonly keyDeviation: Float64Array;
  /**
   * What channels have in common: how much of each one's unit deviation is each of a few factors [channels, factors]; the
   * rest is its own.
   */
  readonly keyLoadings: Float64Array;
  /** By pair: only channels of one set share factors, so that a larger head has several of a smaller one's. */
  readonly keySets: Int32Array;
  /** Key of the first token, the attention sink. */
  readonly sinkKey: Float64Array;
  readonly sinkPhase: Float64Array;
  /** Marks of a chat template near the start whose keys are nearly the sink's: how many, and how far on the way to it. */
  readonly marks: number;
  readonly markShare: number;
  /**
   * Mean key of the other tokens of the first dozens, as it would be at the first one, and the size of their deviations
   * over that of later keys'; further on both come nearer to those of other keys.
   */
  readonly earlyKey: Float64Array;
  readonly earlyPhase: Float64Array;
  readonly earlySpread: number;
  readonly queries: readonly QueryProfile[];
  /** Of the factors that keys' channels share, and of what each channel has of its own. */
  readonly keyCoherence: Coherence;
  readonly ownCoherence: Coherence;
  readonly queryCoherence: Coherence;
  /** Correlation of the deviations of two query heads of the group. */
  readonly agreement: number;
  /** Share of the tokens that are salient (delimiters and the like), and their logit above others under the mean query. */
  readonly salientRatio: number;
  readonly salientNats: number;
  /** The end of the prompt, where the question stands, and the answer's own tokens. */
  readonly question: Landmark;
  readonly answer: Landmark;
  /** What the head's attention came to where it was measured, mean over its query heads. */
  readonly measured: MeasuredHead;
}

export interface MeasuredHead {
  /** Share of the mass beyond the first four tokens that the top 1 % and 10 % of the keys hold. */
  readonly massTop1: number;
  readonly massTop10: number;
  /** Share of all mass on the first four tokens. */
  readonly sinkRatio: number;
  /** Share of all mass on the last 256 tokens. */
  readonly localRatio: number;
}

export interface HeadPlan {
  readonly profile: HeadProfile;
  /** What its attention is brought to: the same at any length, as it is in real models. */
  readonly attended: Attended;
}

/** Where an answer's attention goes: shares of the mass, mean over query heads and steps; they sum to 1. */
export interface Regions {
  /** The first tokens: the sink, and a chat template's marks. */
  readonly start: number;
  /** Everything between the start and the question but the evidence. */
  readonly text: number;
  /** The passage of the text that all heads together look at most. */
  readonly evidence: number;
  readonly question: number;
  /** The answer's own tokens, the newest with them. */
  readonly answer: number;
}

/** How the text's mass is spread over its tokens. */
export interface Concentration {
  /** Share on the heaviest 0.1 %, 1 % and 10 % of the tokens. */
  readonly textTop01: number;
  readonly textTop1: number;
  readonly textTop10: number;
  /** Share on the last quarter of the text. */
  readonly textLate: number;
  /** Standard deviation of the logits of the text's tokens, nats. */
  readonly textNats: number;
  /** Size of the deviations of the text's keys, in the channels that logits hang on, over that in the model's profile. */
  readonly textSpread: number;
  /** Share on what were the heaviest 1 % of the tokens to the same query head a few steps before (regions.ts). */
  readonly textKept: number;
}

/** Attention of one KV head as a generated one is brought to it. */
export interface Attended extends Regions, Concentration {
  /** Share of the answer's mass on its newest token, the query's own. */
  readonly newest: number;
}

/** What a task changes in a model's heads: its text, and where each KV head's attention goes. */
export interface TaskProfile {
  readonly questionTokens: number;
  readonly evidencePlace: number;
  attended(layer: number, kvHead: number): Attended;
}

export interface TextProfile {
  /** Mean lengths, tokens; lengths are geometric, so coherence decays exponentially with distance. */
  readonly wordTokens: number;
  readonly sentenceTokens: number;
  readonly passageTokens: number;
  /** Distinct tokens, Zipf with exponent 1. */
  readonly vocabulary: number;
  /** Last tokens of the prompt that hold the question, a chat template's marks with it. */
  readonly questionTokens: number;
  /** Where in the text the passage is that the question is about: 0 = at its beginning, 1 = at its end. */
  readonly evidencePlace: number;
}

export interface SyntheticPreset {
  readonly name: string;
  /** The model's shape where the preset is of one model; null leaves it to the caller. */
  readonly shape: SyntheticShape | null;
  /** Tasks that it was fitted for; without one it stands for their mean. */
  readonly tasks: readonly string[];
  text(task: string | null): TextProfile;
  plan(shape: SyntheticShape, layer: number, kvHead: number, random: Random, task: string | null): HeadPlan;
}
