/**
 * HBM slots of single tokens, held by the query heads that chose them in the previous choice: a token that another
 * query head of the group chose has to cross the link once more, as in caches that are kept per query head.
 */
import type { HeadCache } from '../memory/head-cache.ts';
import { bitCount } from '../quality/selection.ts';

export class QuerySlots {
  /** Per token, which query heads hold it, and which chose it in the choice at hand. */
  private readonly held: Int32Array;
  private readonly chosen: Int32Array;
  private readonly holders: Int32Array;
  private readonly shared: boolean;
  private holding = 0;

  /** `shared` slots serve the whole group: one copy, whoever chose. */
  constructor(maxTokens: number, shared: boolean) {
    this.shared = shared;
    this.held = new Int32Array(maxTokens);
    this.chosen = new Int32Array(maxTokens);
    this.holders = new Int32Array(maxTokens);
  }

  /** Notes that a query head chose a token that DRAM holds. */
  choose(token: number, query: number): void {
    this.chosen[token] |= 1 << query;
  }

  /** Tokens [from, to), which DRAM holds, start in the slots of all `queries` query heads; nothing crosses. */
  adopt(cache: HeadCache, from: number, to: number, queries: number): void {
    for (let token = from; token < to; token++) {
      for (let query = 0; query < queries; query++) this.choose(token, query);
      this.hold(cache, token, false);
    }
  }

  /** Gives the slots to the choice noted since the last turn, among tokens [from, to). */
  turn(cache: HeadCache, from: number, to: number): void {
    const { held, chosen, holders } = this;
    for (let i = 0; i < this.holding; i++) {
      const token = holders[i];
      if (chosen[token] !== 0) continue;
      cache.setSlots(token, 0, 0);
      held[token] = 0;
    }
    this.holding = 0;
    for (let token = from; token < to; token++) if (chosen[token] !== 0) this.hold(cache, token, true);
  }

  private hold(cache: HeadCache, token: number, crossing: boolean): void {
    const { held, chosen, shared } = this;
    const now = chosen[token];
    const entering = shared ? Number(held[token] === 0) : bitCount(now & ~held[token]);
    cache.setSlots(token, shared ? 1 : bitCount(now), crossing ? entering : 0);
    this.holders[this.holding++] = token;
    held[token] = now;
    chosen[token] = 0;
  }
}
