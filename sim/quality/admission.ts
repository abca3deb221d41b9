/**
 * Whether the tokens of the prompt that were kept are those that later queries attend to most. The oracle ranks a token by
 * the largest exact attention that any generated token pays to it; as many tokens as were kept count as worth keeping.
 * Precision is the share of the kept ones among them; AUROC the probability that a token worth keeping scores higher than
 * one that is not, ties counted half (Hanley and McNeil 1982): 0.5 is chance. A policy's score is 1 for kept, 0 for
 * dropped; a trace's learned gate has scores of its own.
 */
import type { ExactAttention } from './exact-attention.ts';
import { topKPositions } from './top-k.ts';

/** Area under the receiver operating characteristic of `scores` for the marked entries; null when one class is empty. */
export const auroc = (scores: Float32Array, marked: Uint8Array): number | null => {
  const order = Uint32Array.from(scores, (_, i) => i).sort((a, b) => scores[a] - scores[b]);
  let below = 0;
  let wins = 0;
  let positives = 0;
  for (let i = 0; i < order.length; ) {
    let end = i;
    let tiedPositives = 0;
    let tied = 0;
    for (; end < order.length && scores[order[end]] === scores[order[i]]; end++) {
      tied++;
      tiedPositives += marked[order[end]];
    }
    wins += tiedPositives * (below + (tied - tiedPositives) / 2);
    below += tied - tiedPositives;
    positives += tiedPositives;
    i = end;
  }
  return positives === 0 || below === 0 ? null : wins / (positives * below);
};

/** Largest exact attention that each prompt token receives from the measured steps, over the group. */
export class FutureAttention {
  readonly most: Float32Array;

  constructor(promptTokens: number) {
    this.most = new Float32Array(promptTokens);
  }

  add({ groupSize, stride, probabilities }: ExactAttention): void {
    const { most } = this;
    for (let g = 0; g < groupSize; g++) {
      for (let token = 0, at = g * stride; token < most.length; token++, at++)
        if (probabilities[at] > most[token]) most[token] = probabilities[at];
    }
  }

  /** Marks the `count` tokens that the oracle would keep. */
  worthKeeping(count: number): Uint8Array {
    const positions = new Int32Array(this.most.length);
    const found = topKPositions(this.most, this.most.length, count, positions);
    const marked = new Uint8Array(this.most.length);
    for (let i = 0; i < found; i++) marked[positions[i]] = 1;
    return marked;
  }
}

/** Samples over all KV heads of a policy that kept some and dropped some of the prompt. */
export class Admission {
  readonly keptShare: number[] = [];
  readonly precision: number[] = [];
  readonly auroc: number[] = [];
  readonly gateAuroc: number[] = [];

  /**
   * `kept` marks the prompt tokens that were alive when decoding began; `gate` are a learned gate's scores of at least
   * those tokens, null when the trace has none.
   */
  add(future: FutureAttention, kept: Uint8Array, gate: Float32Array | null): void {
    const tokens = kept.length;
    let count = 0;
    for (const mark of kept) count += mark;
    if (count === 0 || count === tokens) return;
    const marked = future.worthKeeping(count);
    let hits = 0;
    for (let token = 0; token < tokens; token++) hits += kept[token] & marked[token];
    this.keptShare.push(count / tokens);
    this.precision.push(hits / count);
    // Two scores only: the area is the mean of both classes' accuracy.
    this.auroc.push((hits / count + 1 - (count - hits) / (tokens - count)) / 2);
    const area = gate === null ? null : auroc(gate.subarray(0, tokens), marked);
    if (area !== null) this.gateAuroc.push(area);
  }
}
