/**
 * How much of exact attention a subset of the tokens holds. With a the exact softmax row and T the attended tokens:
 * mass recall ρ = Σ_T a, and KL(ã‖a) = -ln ρ for the softmax over T alone, so no divergence is reported beside it;
 * top-k recall |T ∩ top_k(a)| / k at k = |T| (as PQCache's own check) and k = 100 (ParisKV, arXiv 2602.07721);
 * best mass: ρ of the |T| largest, against which ρ is the policy's regret; value-weighted mass Σ_T a‖v‖ / Σ a‖v‖,
 * because tokens with small values move no output (after NVIDIA/kvpress criticalkv_press.py, which also multiplies by the
 * output projection: a trace has none).
 */
import type { ExactAttention } from './exact-attention.ts';
import type { Recall } from './head-quality.ts';
import type { Selection } from './selection.ts';
import type { Truth } from './truth.ts';

/** k of the top-k recall that does not depend on a policy's size. */
export const TOP_TOKENS = 100;

/**
 * Measures the first `count` of the listed positions for query head g into `out`, which says "perfect" so far; `norms`
 * of the values, null without them.
 */
export const measureRecall = (
  exact: ExactAttention,
  g: number,
  count: number,
  { positions }: Selection,
  truth: Truth,
  norms: Float32Array | null,
  out: Recall,
): void => {
  const n = exact.length;
  out.tokens = count;
  if (count === n) return;
  const row = exact.probabilities.subarray(g * exact.stride, g * exact.stride + n);
  const ranks = truth.ranksOf(exact, g);
  const few = Math.min(TOP_TOKENS, n);
  const own = ranks.threshold(Math.max(1, count));
  const top = ranks.threshold(few);
  const words = new Uint32Array(row.buffer, row.byteOffset, n);
  let mass = 0;
  let weighted = 0;
  let hits = 0;
  let tied = 0;
  let topHits = 0;
  let topTied = 0;
  for (let i = 0; i < count; i++) {
    const at = positions[i];
    const word = words[at];
    mass += row[at];
    if (norms !== null) weighted += row[at] * norms[at];
    if (word > own.bits) hits++;
    else if (word === own.bits) tied++;
    if (word > top.bits) topHits++;
    else if (word === top.bits) topTied++;
  }
  out.massRecall = Math.min(1, mass);
  out.topkRecall = count === 0 ? 0 : (hits + Math.min(tied, own.ties)) / count;
  out.recallAt100 = (topHits + Math.min(topTied, top.ties)) / few;
  out.bestMass = count === 0 ? 0 : Math.min(1, ranks.bestMass(count));
  if (norms === null) return;
  const total = truth.valueTotal(exact, g, norms);
  out.valueMass = total === 0 ? 1 : Math.min(1, weighted / total);
};
