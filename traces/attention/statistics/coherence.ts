/**
 * How far deviations from the mean stay the same along the text: shares that decay with words, sentences and passages,
 * from correlations at three distances; the share of a token's identity; what two heads of a group have in common.
 */
import type { Coherence } from '../presets/preset.ts';
import { type FitSource, skippedTokens } from './fit-source.ts';

/** Distances at which the word's, sentence's and passage's shares are told apart, and the mean lengths assumed. */
const lags = { word: 1, sentence: 4, passage: 64 } as const;
const meanLengths = { wordTokens: 2, sentenceTokens: 10, passageTokens: 100 } as const;

/** Most that coherence may explain: every token has something of its own. */
const mostExplained = 0.95;

/** (1 - 1/L)^lag: chance that two tokens at that distance are in one run of mean length L. */
function together(meanTokens: number, lag: number): number {
  let chance = 1;
  for (let i = 0; i < lag; i++) chance *= 1 - 1 / meanTokens;
  return chance;
}

const clamp = (x: number, most: number): number => Math.max(0, Math.min(most, x));

/**
 * Coherence of rows: `blocks` of consecutive rows, each block with rows of every head. `means` and `deviations` by head.
 * Each block lies about its own mean. Channels count by `weights`, mean 1.
 */
export function coherenceOf(
  blocks: readonly (readonly Float32Array[])[],
  means: readonly Float64Array[],
  deviations: readonly Float64Array[],
  identity: number,
  weights: readonly Float64Array[] = deviations.map((deviation) => deviation.map(() => 1)),
): Coherence {
  const at = (lag: number): number => {
    const values = blocks.flatMap((heads) =>
      heads.map((rows, g) => correlationAt(rows, means[g], deviations[g], weights[g], lag)),
    );
    return values.reduce((sum, value) => sum + value, 0) / values.length;
  };
  const lengths = blocks.map(([rows]) => rows.length / means[0].length);
  // A short stretch has few pairs at the longest distance: a sixteenth of it will do.
  const longLag = Math.min(lags.passage, Math.max(lags.sentence * 2, Math.floor(Math.min(...lengths) / 4)));
  const found = { word: at(lags.word), sentence: at(lags.sentence), passage: at(longLag) };
  let shares: Omit<Coherence, 'identity'> = { word: 0, sentence: 0, passage: 0 };
  for (let round = 0; round < centringRounds; round++) {
    // Rows lie about the mean of their own block, which has taken along what is the same over all of it.
    const taken = lengths.reduce((sum, length) => sum + variationOfMean(shares, length) / lengths.length, 0);
    const whole = (correlation: number): number => correlation * (1 - taken) + taken;
    shares = sharesOf(whole(found.word), whole(found.sentence), whole(found.passage), longLag);
  }
  const { word, sentence, passage } = shares;
  return { identity: clamp(identity, mostExplained - passage - sentence - word), word, sentence, passage };
}

/** Times that what a block's mean takes along is told anew from the shares. */
const centringRounds = 6;

/** Shares of runs from correlations at the three distances: the longest runs first, then what they leave. */
function sharesOf(
  atWord: number,
  atSentence: number,
  atLong: number,
  longLag: number,
): Omit<Coherence, 'identity'> {
  const { wordTokens, sentenceTokens, passageTokens } = meanLengths;
  const passage = clamp(atLong / together(passageTokens, longLag), mostExplained);
  const sentence = clamp(
    (atSentence - passage * together(passageTokens, lags.sentence)) / together(sentenceTokens, lags.sentence),
    mostExplained - passage,
  );
  const left =
    atWord - passage * together(passageTokens, lags.word) - sentence * together(sentenceTokens, lags.word);
  const word = clamp(left / together(wordTokens, lags.word), mostExplained - passage - sentence);
  return { word, sentence, passage };
}

/**
 * Variance of the mean of so many rows in a line, over that of a row. Passages are left out: over a block of their length
 * they can't be told from its mean.
 */
function variationOfMean({ word, sentence }: Omit<Coherence, 'identity'>, rows: number): number {
  let sum = 1;
  let [byWord, bySentence] = [word, sentence];
  for (let lag = 1; lag < rows; lag++) {
    byWord *= 1 - 1 / meanLengths.wordTokens;
    bySentence *= 1 - 1 / meanLengths.sentenceTokens;
    sum += 2 * (1 - lag / rows) * (byWord + bySentence);
  }
  return sum / rows;
}

/** Mean over channels of the normalised product of rows `lag` apart. */
function correlationAt(
  rows: Float32Array,
  mean: Float64Array,
  deviation: Float64Array,
  weights: Float64Array,
  lag: number,
): number {
  const width = mean.length;
  const inverse = Float64Array.from(weights, (weight, c) => Math.sqrt(weight) / Math.max(1e-9, deviation[c]));
  const ahead = lag * width;
  let sum = 0;
  for (let i = 0; i + ahead < rows.length; i++) {
    const c = i % width;
    sum += (rows[i] - mean[c]) * (rows[i + ahead] - mean[c]) * inverse[c] * inverse[c];
  }
  return sum / (rows.length - ahead);
}

/** Shares of a logit's variance and of the channels' that factors make have to differ by so much to tell two coherences. */
const leastApart = 0.05;

/**
 * Coherence of keys' factors and of what channels have of their own, from that of all channels alike, where factors make
 * one share of the variance, and of channels by `weights`, where they make another.
 */
export function splitCoherence(
  coherenceBy: (weights: Float64Array) => Coherence,
  loadings: Float64Array,
  weights: Float64Array,
): { readonly keyCoherence: Coherence; readonly ownCoherence: Coherence } {
  const factors = loadings.length / weights.length;
  const explained = weights.map((_, c) =>
    loadings.subarray(c * factors, (c + 1) * factors).reduce((sum, x) => sum + x * x, 0),
  );
  const share = explained.reduce((sum, x) => sum + x, 0) / weights.length;
  const weighted = explained.reduce((sum, x, c) => sum + x * weights[c], 0) / weights.length;
  const [alike, asked] = [coherenceBy(weights.map(() => 1)), coherenceBy(weights)];
  if (weighted - share < leastApart) return { keyCoherence: asked, ownCoherence: alike };
  const partsAt = (ofShare: number): Coherence => {
    const at = (a: number, b: number): number =>
      Math.max(0, a + ((b - a) * (ofShare - share)) / (weighted - share));
    const { identity, word, sentence, passage } = asked;
    const all = {
      identity: at(alike.identity, identity),
      word: at(alike.word, word),
      sentence: at(alike.sentence, sentence),
      passage: at(alike.passage, passage),
    };
    const sum = all.identity + all.word + all.sentence + all.passage;
    const most = Math.min(1, mostExplained / Math.max(1e-12, sum));
    return {
      identity: most * all.identity,
      word: most * all.word,
      sentence: most * all.sentence,
      passage: most * all.passage,
    };
  };
  return { keyCoherence: partsAt(1), ownCoherence: partsAt(0) };
}

/** Share of the keys' variance that equal tokens have in common, from all pairs of them; 0.5 where not known. Channels by `weights`. */
export function identityShare(
  sources: readonly FitSource[],
  mean: Float64Array,
  deviation: Float64Array,
  weights: Float64Array,
): number {
  const scale = deviation.map((x, c) => Math.sqrt(weights[c]) / Math.max(1e-9, x));
  const shares = sources.flatMap(({ head, identities }) => {
    if (identities === null) return [];
    return [sharedByIdentity(head.keys, identities, mean, scale)];
  });
  return shares.length === 0 ? 0.5 : shares.reduce((sum, share) => sum + share, 0) / shares.length;
}

function sharedByIdentity(
  keys: Float32Array,
  identities: Int32Array,
  mean: Float64Array,
  scale: Float64Array,
): number {
  const width = mean.length;
  const tokens = keys.length / width;
  const kinds = identities.reduce((most, id) => Math.max(most, id), 0) + 1;
  const sums = new Float64Array(kinds * width);
  const counts = new Float64Array(kinds);
  const squares = new Float64Array(kinds);
  for (let t = skippedTokens; t < tokens; t++) {
    const id = identities[t];
    counts[id]++;
    for (let c = 0; c < width; c++) {
      const x = (keys[t * width + c] - mean[c]) * scale[c];
      sums[id * width + c] += x;
      squares[id] += x * x;
    }
  }
  let shared = 0;
  let weight = 0;
  for (let id = 0; id < kinds; id++) {
    const n = counts[id];
    if (n < 2) continue;
    let square = 0;
    for (let c = 0; c < width; c++) square += sums[id * width + c] * sums[id * width + c];
    // Mean product of two different tokens of this kind, weighed by how many tokens it stands for.
    shared += ((square - squares[id]) / (n * (n - 1)) / width) * n;
    weight += n;
  }
  return weight === 0 ? 0.5 : clamp(shared / weight, mostExplained);
}

/**
 * How much logits hang on each channel of a query head's deviation, mean 1: by its variance, and that of the keys in its
 * rotary pair.
 */
export function logitShares(deviation: Float64Array, keyDeviation: Float64Array): Float64Array {
  const pairs = deviation.length / 2;
  const shares = deviation.map((x, c) => {
    const [along, across] = [keyDeviation[c % pairs], keyDeviation[(c % pairs) + pairs]];
    return x * x * (along * along + across * across);
  });
  const average = shares.reduce((sum, x) => sum + x, 0) / shares.length;
  return shares.map((x) => x / average);
}

/** Correlation between the deviations of two query heads of a group, over all pairs of them; channels by `weights`. */
export function agreementOf(
  sources: readonly FitSource[],
  means: readonly Float64Array[],
  deviations: readonly Float64Array[],
  weights: readonly Float64Array[],
): number {
  const width = means[0].length;
  const group = means.length;
  let agreement = 0;
  let compared = 0;
  for (const { heads } of sources.flatMap(({ head }) => head.stretches)) {
    const units = heads.map((rows, g) =>
      Float64Array.from(
        rows,
        (x, i) => ((x - means[g][i % width]) / deviations[g][i % width]) * Math.sqrt(weights[g][i % width]),
      ),
    );
    for (let a = 0; a < group; a++) {
      for (let b = a + 1; b < group; b++) {
        const alike = weights[a].reduce((sum, x, c) => sum + Math.sqrt(x * weights[b][c]) / width, 0);
        let product = 0;
        for (let i = 0; i < units[a].length; i++) product += units[a][i] * units[b][i];
        agreement += product / units[a].length / alike;
        compared++;
      }
    }
  }
  return compared === 0 ? 0 : clamp(agreement / compared, mostExplained);
}
