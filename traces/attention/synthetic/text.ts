/**
 * The text that all heads of a synthetic trace read: words, sentences and passages of geometric lengths, and token
 * identities by Zipf's law. A key or query has a part that stays the same over each of them, which makes neighbours
 * alike, and one of its identity, which makes repeated tokens alike; all heads share them, as in a real prompt.
 */
import { createRandom, type Random } from '../../../sim/engine/random.ts';
import type { TextProfile } from '../presets/preset.ts';
import { type RegionBounds, regionBounds } from './regions.ts';

export interface SyntheticText {
  readonly tokens: number;
  /** Word, sentence and passage of each token. */
  readonly words: Int32Array;
  readonly sentences: Int32Array;
  readonly passages: Int32Array;
  /** Token identity, 0 = most frequent. */
  readonly types: Uint16Array;
  /** Where the prompt's parts lie. */
  readonly bounds: RegionBounds;
  /** How much each landmark token stands out, by unit normals, from the question's first token on (bounds.textTo). */
  readonly standing: Float32Array;
  /** Rank of each identity, 0 .. 1: in a head with a share r of salient tokens, those below r are. */
  readonly salience: Float32Array;
}

export function createText(
  profile: TextProfile,
  promptTokens: number,
  steps: number,
  seed: number,
): SyntheticText {
  const tokens = promptTokens + steps;
  const weights = zipfWeights(profile.vocabulary);
  const bounds = regionBounds(promptTokens, profile.questionTokens, profile.evidencePlace);
  const standing = new Float32Array(tokens - bounds.textTo);
  createRandom(seed, 'text.standing').fillNormal(standing);
  return {
    bounds,
    standing,
    tokens,
    words: drawRuns(tokens, profile.wordTokens, createRandom(seed, 'text.words')),
    sentences: drawRuns(tokens, profile.sentenceTokens, createRandom(seed, 'text.sentences')),
    passages: drawRuns(tokens, profile.passageTokens, createRandom(seed, 'text.passages')),
    types: drawTypes(weights, tokens, createRandom(seed, 'text.tokens')),
    salience: rankSalience(weights, createRandom(seed, 'text.salience')),
  };
}

/** Numbers of consecutive runs of geometric length. */
function drawRuns(tokens: number, meanTokens: number, random: Random): Int32Array {
  const runs = new Int32Array(tokens);
  const end = 1 / meanTokens;
  for (let token = 1, run = 0; token < tokens; token++) {
    if (random.uniform() < end) run++;
    runs[token] = run;
  }
  return runs;
}

function zipfWeights(vocabulary: number): Float64Array {
  const weights = Float64Array.from({ length: vocabulary }, (_, type) => 1 / (type + 1));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

/** By a table of 65,536 entries. */
function drawTypes(weights: Float64Array, tokens: number, random: Random): Uint16Array {
  const table = new Uint16Array(65536);
  let cumulative = 0;
  let filled = 0;
  for (let type = 0; type < weights.length; type++) {
    cumulative += weights[type];
    const end = type === weights.length - 1 ? 65536 : Math.round(cumulative * 65536);
    table.fill(type, filled, end);
    filled = end;
  }
  const types = new Uint16Array(tokens);
  for (let t = 0; t < tokens; t++) types[t] = table[random.nextUint32() >>> 16];
  return types;
}

/** Rarer than this, an identity may be among the first to be salient, so that a small share is met closely. */
const rareWeight = 0.002;

/**
 * Cumulative frequency of the identities in an order drawn at random, all heads' alike: a delimiter is salient to many
 * heads at once.
 */
function rankSalience(weights: Float64Array, random: Random): Float32Array {
  const rank = new Float32Array(weights.length).fill(1);
  const order = Array.from(weights.keys()).filter((type) => weights[type] < rareWeight);
  for (let i = order.length - 1; i > 0; i--) {
    const j = random.integer(i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  let cumulative = 0;
  for (const type of order) {
    rank[type] = cumulative + weights[type] / 2;
    cumulative += weights[type];
  }
  return rank;
}
