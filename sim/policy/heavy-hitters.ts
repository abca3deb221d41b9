/**
 * Accumulated attention of one KV head (arXiv 2306.14048): a sum per token and chooser, and eviction of the tokens with
 * the least of it. As sums, or divided by the number of queries that could see the token, so that age is no merit
 * (NVIDIA/kvpress, AnswerDotAI/cold-compress).
 */
import { choosersOf, groupRows } from './group-rows.ts';
import { Holders } from './holders.ts';
import type { HeadView, PrefillView, World } from './policy.ts';
import type { GroupVote } from './prompt-eviction.ts';
import { type PromptColumns, promptColumns } from './prompt-rows.ts';

/** Bytes of one accumulated score, float32. */
export const SCORE_BYTES = 4;

/** What an eviction leaves: the first `sinks` tokens, the last `recent`, and `heavy` of the others. */
export interface Quota {
  readonly sinks: number;
  readonly heavy: number;
  readonly recent: number;
}

export class HeavyHitters {
  readonly holders: Holders;
  private readonly sums: readonly Float32Array[];
  /** Queries that were summed over each token. */
  private readonly seen: Float32Array;
  private readonly rates: Float32Array | null;

  constructor(head: HeadView, choosers: number, capacityTokens: number, normalised: boolean) {
    this.holders = new Holders(head.cache, choosers);
    this.sums = Array.from({ length: choosers }, () => new Float32Array(capacityTokens));
    this.seen = new Float32Array(capacityTokens);
    this.rates = normalised ? new Float32Array(capacityTokens) : null;
  }

  /** The prompt is read: takes its column sums, row-major [choosers, promptTokens], and holds all of its tokens. */
  begin({ sums, seen }: PromptColumns): void {
    const n = seen.length;
    this.seen.set(seen);
    this.sums.forEach((sum, chooser) => {
      sum.set(sums.subarray(chooser * n, (chooser + 1) * n));
    });
    this.holders.add(0, n);
  }

  /** One more query: its attention on tokens 0 .. length-1, row-major [choosers, length]. */
  add(rows: Float32Array, length: number): void {
    const { positions, counts } = this.holders;
    this.sums.forEach((sum, chooser) => {
      for (let at = 0; at < counts[chooser]; at++) {
        const token = positions[chooser][at];
        sum[token] += rows[chooser * length + token];
      }
    });
    for (let token = 0; token < length; token++) this.seen[token]++;
  }

  /** Evicts what is over the quota. */
  evict(quota: Quota): void {
    for (let chooser = 0; chooser < this.holders.choosers; chooser++) {
      const marks = this.overQuota(chooser, quota);
      if (marks !== null) this.holders.retain(chooser, (_, index) => marks[index] === 0);
    }
  }

  /** Marks (1), by position, the tokens that the first chooser would keep as heavy hitters. */
  heaviest(quota: Quota): Uint8Array {
    const { holders } = this;
    const heavy = new Uint8Array(this.seen.length);
    const marks = this.overQuota(0, quota);
    for (let at = quota.sinks; at < holders.counts[0] - quota.recent; at++)
      if (marks === null || marks[at] === 0) heavy[holders.positions[0][at]] = 1;
    return heavy;
  }

  /** By index into what a chooser holds: 1 = over the quota; null when nothing is. */
  private overQuota(chooser: number, { sinks, heavy, recent }: Quota): Uint8Array | null {
    const { holders, sums, seen, rates } = this;
    const end = holders.counts[chooser] - recent;
    const excess = end - sinks - heavy;
    if (excess <= 0) return null;
    if (rates !== null) {
      for (let at = sinks; at < end; at++) {
        const token = holders.positions[chooser][at];
        rates[token] = sums[chooser][token] / Math.max(1, seen[token]);
      }
    }
    return holders.least(chooser, rates ?? sums[chooser], sinks, end, excess);
  }
}

/** The heavy hitters of the head at index `at`, after the prompt. */
export const heavyHittersOf = (
  view: PrefillView,
  at: number,
  world: World,
  group: GroupVote,
  normalised: boolean,
): HeavyHitters => {
  const head = new HeavyHitters(view.heads[at], choosersOf(group, world), world.maxTokens, normalised);
  const { sums, seen } = promptColumns(view, at, world);
  head.begin({ sums: groupRows(sums, world.groupSize, view.length, group), seen });
  return head;
};
