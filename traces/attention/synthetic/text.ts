/**
 * The text that all heads of a synthetic trace read: passages of drifting topic, each with a latent vector, and token
 * identities drawn by Zipf's law within the topic. Passages make neighbouring keys alike, identities make repeated
 * tokens alike; both are shared by all heads, as in a real prompt.
 */
import { createRandom, type Random } from '../../../sim/engine/random.ts';
import type { TextProfile } from '../presets/preset.ts';

export interface SyntheticText {
  readonly tokens: number;
  readonly passages: number;
  /** First token of each passage, and one past the last at [passages]. */
  readonly starts: Int32Array;
  readonly passageOf: Int32Array;
  /** Token identity, 0 = most frequent. */
  readonly types: Uint16Array;
  readonly rank: number;
  /** Row-major [passages, rank]; each coefficient has mean 0 and variance 1 over passages. */
  readonly latents: Float32Array;
}

/** `tokens` of text; `rank` latent dimensions a passage. */
export function createText(profile: TextProfile, tokens: number, rank: number, seed: number): SyntheticText {
  const random = createRandom(seed, 'text.passages');
  const starts: number[] = [];
  const meanRest = profile.passageMeanTokens - profile.passageMinTokens;
  for (let at = 0; at < tokens; ) {
    starts.push(at);
    at += profile.passageMinTokens + Math.floor(random.exponential(meanRest));
  }
  const passages = starts.length;
  const topicOf = drawTopics(profile, passages, random);
  const passageOf = new Int32Array(tokens);
  for (let p = 0; p < passages; p++) passageOf.fill(p, starts[p], starts[p + 1] ?? tokens);
  return {
    tokens,
    passages,
    starts: Int32Array.from([...starts, tokens]),
    passageOf,
    types: drawTypes(profile, passageOf, topicOf, seed),
    rank,
    latents: drawLatents(profile, topicOf, rank, seed),
  };
}

/** Topics stay for some passages, then move to one drawn with frequency 1 / (rank + 4): topics come back. */
function drawTopics(profile: TextProfile, passages: number, random: Random): Int32Array {
  const weights = Array.from({ length: profile.topics }, (_, topic) => 1 / (topic + 4));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const topicOf = new Int32Array(passages);
  for (let p = 0; p < passages; p++) {
    if (p > 0 && random.uniform() < profile.topicStay) {
      topicOf[p] = topicOf[p - 1];
      continue;
    }
    let left = random.uniform() * total;
    let topic = 0;
    while (topic < profile.topics - 1 && left >= weights[topic]) left -= weights[topic++];
    topicOf[p] = topic;
  }
  return topicOf;
}

function drawLatents(profile: TextProfile, topicOf: Int32Array, rank: number, seed: number): Float32Array {
  const topics = new Float32Array(profile.topics * rank);
  createRandom(seed, 'text.topics').fillNormal(topics);
  const latents = new Float32Array(topicOf.length * rank);
  createRandom(seed, 'text.latents').fillNormal(latents);
  const own = Math.sqrt(1 - profile.topicRatio);
  const common = Math.sqrt(profile.topicRatio);
  for (let p = 0; p < topicOf.length; p++) {
    for (let i = 0; i < rank; i++) {
      latents[p * rank + i] = own * latents[p * rank + i] + common * topics[topicOf[p] * rank + i];
    }
  }
  return latents;
}

/** Identities by a 65,536-entry table of Zipf's law; content words are shifted by topic, so topics differ in words. */
function drawTypes(
  profile: TextProfile,
  passageOf: Int32Array,
  topicOf: Int32Array,
  seed: number,
): Uint16Array<ArrayBuffer> {
  const { vocabulary, functionWords, topics } = profile;
  const table = zipfTable(vocabulary);
  const contentWords = vocabulary - functionWords;
  const shift = Math.floor(contentWords / topics);
  const random = createRandom(seed, 'text.tokens');
  const types = new Uint16Array(passageOf.length);
  for (let t = 0; t < types.length; t++) {
    const type = table[random.nextUint32() >>> 16];
    const shifted = type - functionWords + shift * topicOf[passageOf[t]];
    types[t] = type < functionWords ? type : functionWords + (shifted % contentWords);
  }
  return types;
}

function zipfTable(vocabulary: number): Uint16Array {
  let total = 0;
  for (let type = 0; type < vocabulary; type++) total += 1 / (type + 1);
  const table = new Uint16Array(65536);
  let filled = 0;
  let cumulative = 0;
  for (let type = 0; type < vocabulary; type++) {
    cumulative += 1 / (type + 1);
    const end = type === vocabulary - 1 ? 65536 : Math.round((cumulative / total) * 65536);
    table.fill(type, filled, end);
    filled = end;
  }
  return table;
}
