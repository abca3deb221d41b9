/**
 * The admitted tokens of one KV head, packed into pages in the order of their admission, as WG-KV's page pool holds them:
 * their positions, their keys side by side, and channel bounds by page where pages are chosen (Quest on ragged heads).
 * EMCLab-Sinica/WG-KV src/modeling_layers.py (quest_select_blocks, snapkv_evict).
 */
import { logitsInto, softmaxInPlace } from '../quality/exact-attention.ts';
import { ChannelBounds } from './channel-bounds.ts';
import type { World } from './policy.ts';
import { Ranking, reduceRows } from './ranking.ts';
import { pool } from './votes.ts';

export class GlobalPages {
  tokens = 0;
  /** Positions of the admitted tokens, ascending. */
  readonly positions: Int32Array;
  private readonly keys: Float32Array;
  private readonly headDim: number;
  private readonly groupSize: number;
  private readonly pageTokens: number;
  private readonly bounds: ChannelBounds | null;
  private readonly scores: Float32Array;
  private readonly ranking: Ranking;

  constructor({ maxTokens, headDim, groupSize }: World, pageTokens: number, hasBounds: boolean) {
    this.headDim = headDim;
    this.groupSize = groupSize;
    this.pageTokens = pageTokens;
    this.positions = new Int32Array(maxTokens);
    this.keys = new Float32Array(maxTokens * headDim);
    this.bounds = hasBounds ? new ChannelBounds(maxTokens, headDim, pageTokens) : null;
    const pages = Math.ceil(maxTokens / pageTokens);
    this.scores = new Float32Array(pages * (groupSize + 1));
    this.ranking = new Ranking(pages);
  }

  get pages(): number {
    return Math.ceil(this.tokens / this.pageTokens);
  }

  /** Copies a token's key in from `keys` [maxTokens, headDim]. */
  add(keys: Float32Array, token: number): void {
    const { headDim } = this;
    this.keys.set(keys.subarray(token * headDim, (token + 1) * headDim), this.tokens * headDim);
    this.positions[this.tokens++] = token;
  }

  /** Brings the bounds of the pages up to date that tokens from the `from`-th on lie in. */
  seal(from: number): void {
    if (from < this.tokens) this.bounds?.update(this.keys, from, this.tokens);
  }

  /**
   * The `count` pages with the highest bound of any query of the group [groupSize, headDim], the tail page always among
   * them while it is not full. Returns how many; `chosen` gets them, ascending but for the tail.
   */
  bestPages(queries: Float32Array, count: number, chosen: Int32Array): number {
    const { pages, groupSize, scores, ranking } = this;
    const full = Math.floor(this.tokens / this.pageTokens);
    const most = Math.min(count, pages);
    if (this.bounds === null || most <= 0) return 0;
    this.bounds.scoreInto(queries, groupSize, pages, scores, pages);
    const best = scores.subarray(groupSize * pages, (groupSize + 1) * pages);
    reduceRows(scores, groupSize, pages, pages, 'max', best);
    const found = ranking.best(best, 0, full, most - (pages - full));
    chosen.set(ranking.positions.subarray(0, found));
    if (pages > full) chosen[found] = full;
    return found + pages - full;
  }

  /**
   * Forgets the `count` tokens with the least attention of the window's queries [windowTokens, groupSize, headDim]:
   * softmax over the admitted tokens, largest over the group, mean over the window, maximum over `kernel` neighbours.
   * Calls `forget` with each position.
   */
  evict(
    queries: Float32Array,
    windowTokens: number,
    count: number,
    kernel: number,
    forget: (position: number) => void,
  ): void {
    const n = this.tokens;
    const scores = pool(this.attention(queries, windowTokens), n, kernel, 'max');
    const ranking = new Ranking(n);
    const kept = ranking.best(scores, 0, n, n - count);
    const { headDim, positions, keys } = this;
    let next = 0;
    for (let i = 0; i < n; i++) {
      if (next >= kept || ranking.positions[next] !== i) {
        forget(positions[i]);
        continue;
      }
      positions[next] = positions[i];
      keys.copyWithin(next * headDim, i * headDim, (i + 1) * headDim);
      next++;
    }
    this.tokens = kept;
    this.seal(0);
  }

  private attention(queries: Float32Array, windowTokens: number): Float32Array {
    const { tokens: n, groupSize, headDim, keys } = this;
    const mean = new Float32Array(n);
    const rows = new Float32Array(groupSize * n);
    const best = new Float32Array(n);
    const size = groupSize * headDim;
    for (let w = 0; w < windowTokens; w++) {
      logitsInto(queries.subarray(w * size, (w + 1) * size), groupSize, keys, headDim, n, rows, n);
      for (let g = 0; g < groupSize; g++) softmaxInPlace(rows.subarray(g * n), n);
      reduceRows(rows, groupSize, n, n, 'max', best);
      for (let i = 0; i < n; i++) mean[i] += best[i] / windowTokens;
    }
    return mean;
  }
}
