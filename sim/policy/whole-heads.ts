/**
 * Heads that keep the whole context or none of it, by one score a head: KVzip's static variant (arXiv 2505.23416;
 * snu-mllab/KVzip attention/score.py _threshold, test.py --save_head_score: a head's score is the largest of its tokens').
 */
import type { ScoredHead } from './streaming-heads.ts';

/** The largest score of a head's tokens. */
export const headScore = (scores: Float32Array): number => scores.reduce((a, b) => Math.max(a, b), 0);

/**
 * Whether a head keeps its context: it does when its score is above that of the head in which the `ratio`-th share of all
 * tokens ends, so that never more than the share is kept; all do at 1.
 */
export const keptHeads = (
  heads: readonly ScoredHead[],
  ratio: number,
): ((layer: number, kvHead: number) => boolean) => {
  const ranked = heads.map(({ score }) => score).sort((a, b) => b - a);
  const cut = ratio >= 1 ? -Infinity : (ranked[Math.ceil(ratio * ranked.length - 1e-9) - 1] ?? -Infinity);
  return (layer, kvHead) =>
    heads.some((head) => head.layer === layer && head.kvHead === kvHead && head.score > cut);
};
