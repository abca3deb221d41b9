/**
 * How far deviations from the mean stay the same along the text: shares that decay with words, sentences and passages,
 * from correlations at three distances; the share of a token's identity; what two heads of a group have in common.
 */
import type { Coherence } from '../presets/preset.ts';
import { type FitSource, skippedTokens } from './fit-source.ts';

/** Distances at which the word's, sentence's and passage's shares are told apart, and the mean lengths assumed. */
const lags = { word: 1, sentence: 4, passage: 64 } as const;
export const meanLengths = { wordTokens: 2, sentenceTokens: 10, passageTokens: 100 } as const;

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
 * The longest runs are known first, then what they leave of the shorter ones.
 */
export function coherenceOf(
  blocks: readonly (readonly Float32Array[])[],
  means: readonly Float64Array[],
  deviations: readonly Float64Array[],
  identity: number,
): Coherence {
  const at = (lag: number): number => {
    const values = blocks.flatMap((heads) =>
      heads.map((rows, g) => correlationAt(rows, means[g], deviations[g], lag)),
    );
    return values.reduce((sum, value) => sum + value, 0) / values.length;
  };
  const { wordTokens, sentenceTokens, passageTokens } = meanLengths;
  // A short stretch has few pairs at the longest distance: a sixteenth of it will do.
  const shortest = Math.min(...blocks.map(([rows]) => rows.length / means[0].length));
  const longLag = Math.min(lags.passage, Math.max(lags.sentence * 2, Math.floor(shortest / 4)));
  const passage = clamp(at(longLag) / together(passageTokens, longLag), mostExplained);
  const leftAt = (lag: number): number => at(lag) - passage * together(passageTokens, lag);
  const sentence = clamp(
    leftAt(lags.sentence) / together(sentenceTokens, lags.sentence),
    mostExplained - passage,
  );
  const word = clamp(
    (leftAt(lags.word) - sentence * together(sentenceTokens, lags.word)) / together(wordTokens, lags.word),
    mostExplained - passage - sentence,
  );
  return {
    identity: clamp(identity, mostExplained - passage - sentence - word),
    word,
    sentence,
    passage,
  };
}

/** Mean over channels of the normalised product of rows `lag` apart. */
function correlationAt(rows: Float32Array, mean: Float64Array, deviation: Float64Array, lag: number): number {
  const width = mean.length;
  const inverse = Float64Array.from({ length: width }, (_, c) => 1 / Math.max(1e-9, deviation[c]));
  const ahead = lag * width;
  let sum = 0;
  for (let i = 0; i + ahead < rows.length; i++) {
    const c = i % width;
    sum += (rows[i] - mean[c]) * (rows[i + ahead] - mean[c]) * inverse[c] * inverse[c];
  }
  return sum / (rows.length - ahead);
}

/** Share of the keys' variance that equal tokens have in common, from all pairs of them; 0.5 where not known. */
export function identityShare(
  sources: readonly FitSource[],
  mean: Float64Array,
  deviation: Float64Array,
): number {
  const shares = sources.flatMap(({ head, identities }) => {
    if (identities === null) return [];
    return [sharedByIdentity(head.keys, identities, mean, deviation)];
  });
  return shares.length === 0 ? 0.5 : shares.reduce((sum, share) => sum + share, 0) / shares.length;
}

function sharedByIdentity(
  keys: Float32Array,
  identities: Int32Array,
  mean: Float64Array,
  deviation: Float64Array,
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
      const x = (keys[t * width + c] - mean[c]) / Math.max(1e-9, deviation[c]);
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

/** Correlation between the deviations of two query heads of a group, over all pairs of them. */
export function agreementOf(
  sources: readonly FitSource[],
  means: readonly Float64Array[],
  deviations: readonly Float64Array[],
): number {
  const width = means[0].length;
  const group = means.length;
  let agreement = 0;
  let compared = 0;
  for (const { heads } of sources.flatMap(({ head }) => head.stretches)) {
    const units = heads.map((rows, g) =>
      Float64Array.from(rows, (x, i) => (x - means[g][i % width]) / deviations[g][i % width]),
    );
    for (let a = 0; a < group; a++) {
      for (let b = a + 1; b < group; b++) {
        let product = 0;
        for (let i = 0; i < units[a].length; i++) product += units[a][i] * units[b][i];
        agreement += product / units[a].length;
        compared++;
      }
    }
  }
  return compared === 0 ? 0 : clamp(agreement / compared, mostExplained);
}
