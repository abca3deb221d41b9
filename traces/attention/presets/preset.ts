/**
 * What a preset of the synthetic generator says: the parameters of the text, of each class of heads, and which head
 * of the model is of which class with which targets. All the numbers that shape a synthetic trace live in presets.
 */
import type { Random } from '../../../sim/engine/random.ts';

export interface SyntheticShape {
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly ropeTheta: number;
}

export type HeadClass = 'sink' | 'local' | 'retrieval' | 'diffuse' | 'periodic';

/** What one KV head's attention is to look like, averaged over steps and its query heads. */
export interface HeadTarget {
  readonly class: HeadClass;
  /** Share of the mass beyond the sink tokens that the top 1 % and 10 % of the keys hold. */
  readonly massTop1: number;
  readonly massTop10: number;
  /** Share of all mass on the first four tokens. */
  readonly sinkRatio: number;
  /** Share of the mass beyond the sinks on the last 256 tokens; an upper wish where attention is to be flat. */
  readonly localRatio: number;
  /** Reach of the positional kernel; for periodic heads, its period. */
  readonly kernelTokens: number;
}

/** How the logits of a class vary over keys and over steps. The three variance shares add up to 1. */
export interface ClassProfile {
  /** Variance from the passages' topics: coherent along the text, so blocks rise and fall as one. */
  readonly topicRatio: number;
  /** Variance from fixed token preferences: the same tokens stay heavy at every step. */
  readonly staticRatio: number;
  /** Variance from what is new in each query. */
  readonly freshRatio: number;
  /** AR(1) coefficient of the topic interest from step to step. */
  readonly persistence: number;
  /** Chance a step that the head turns to another far passage. */
  readonly jumpRatio: number;
  /** How far interest is that one passage (0..1), and how far it is the passage being written. */
  readonly latch: number;
  readonly here: number;
  /** Share of the interest that the query heads of a group have in common. */
  readonly agreement: number;
}

export interface TextProfile {
  /** Passage lengths are minTokens plus an exponential; the mean includes minTokens. */
  readonly passageMinTokens: number;
  readonly passageMeanTokens: number;
  readonly topics: number;
  /** Chance that the next passage keeps the topic, and the topic's share of a passage's variance. */
  readonly topicStay: number;
  readonly topicRatio: number;
  /** Distinct tokens, Zipf with exponent 1; the most frequent `functionWords` belong to no topic. */
  readonly vocabulary: number;
  readonly functionWords: number;
}

export interface KeyProfile {
  /** Latent dimensions of the topics, at most. */
  readonly topicRank: number;
  /** Standard deviation of a topic coefficient; token noise has 1 per channel. */
  readonly topicScale: number;
  /** Share of the token noise that belongs to the token's identity. */
  readonly identityRatio: number;
  /** Standard deviation of the common mean of all keys in the turning channels: what position is read from. */
  readonly turningMean: number;
  /** Standard deviation of token noise in the channels that a head's kernel reads; 1 in the others. */
  readonly kernelNoise: number;
  /** Norm of the common mean in the slow channels, over sqrt(headDim). */
  readonly meanScale: number;
  /** Share of content words that are salient in a head (persistent heavy hitters). */
  readonly salientRatio: number;
}

export interface SyntheticPreset {
  readonly name: string;
  /** The model's shape where the preset is of one model; null leaves it to the caller. */
  readonly shape: SyntheticShape | null;
  readonly text: TextProfile;
  readonly keys: KeyProfile;
  readonly classes: Readonly<Record<HeadClass, ClassProfile>>;
  target(shape: SyntheticShape, layer: number, kvHead: number, random: Random): HeadTarget;
}
