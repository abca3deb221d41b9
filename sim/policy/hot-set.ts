/**
 * The units (pages, chunks, tokens) of one KV head that hold a slot in HBM beside their copy in DRAM. Chosen units
 * enter, over the link if they were not there; when slots run out, those of the lowest rank leave. A buffer of just
 * the chosen units thrashes, so its size is a policy's parameter (vLLM's HiSparse takes twice the choice).
 */
import type { HeadCache } from '../memory/head-cache.ts';

export class HotSet {
  /** Unit → holds a slot. */
  readonly resident: Uint8Array;
  /** Slots taken. */
  size = 0;
  private readonly unitTokens: number;
  private readonly lastUsed: Int32Array;
  private readonly order: Int32Array;
  private now = 0;

  /** Unit u covers tokens u · unitTokens .. (u + 1) · unitTokens - 1, of which it ends at most at `maxTokens`. */
  constructor(maxTokens: number, unitTokens: number) {
    const units = Math.ceil(maxTokens / unitTokens);
    this.unitTokens = unitTokens;
    this.resident = new Uint8Array(units);
    this.lastUsed = new Int32Array(units);
    this.order = new Int32Array(units);
  }

  /** Takes over units that are in HBM already: right after prefill, nothing crosses the link. */
  adopt(unit: number): void {
    if (this.resident[unit] === 1) return;
    this.resident[unit] = 1;
    this.size++;
  }

  /** Frees a unit's slot; its copy in DRAM stays. */
  release(cache: HeadCache, unit: number): void {
    if (this.resident[unit] === 0) return;
    this.resident[unit] = 0;
    this.size--;
    cache.move(unit * this.unitTokens, (unit + 1) * this.unitTokens, 'dram');
  }

  /**
   * Brings the first `count` units of `chosen` (distinct, DRAM holds them) into slots, then frees slots until at most
   * `slots`, or `count` if that is more, are taken: units that were not chosen, lowest `ranks` first, or least recently
   * chosen first without ranks; ties to the earlier unit. Returns how many units entered.
   */
  turnOver(
    cache: HeadCache,
    chosen: Int32Array,
    count: number,
    slots: number,
    ranks: Float32Array | null = null,
  ): number {
    const { resident, lastUsed, unitTokens } = this;
    this.now++;
    let entered = 0;
    for (let i = 0; i < count; i++) {
      const unit = chosen[i];
      lastUsed[unit] = this.now;
      if (resident[unit] === 1) continue;
      resident[unit] = 1;
      entered++;
      cache.move(unit * unitTokens, (unit + 1) * unitTokens, 'hbm', true);
    }
    this.size += entered;
    const surplus = this.size - Math.max(slots, count);
    if (surplus > 0) this.freeLowest(cache, surplus, ranks ?? lastUsed);
    return entered;
  }

  private freeLowest(cache: HeadCache, surplus: number, ranks: Float32Array | Int32Array): void {
    const { resident, lastUsed, order } = this;
    let idle = 0;
    for (let unit = 0; unit < resident.length; unit++)
      if (resident[unit] === 1 && lastUsed[unit] !== this.now) order[idle++] = unit;
    const candidates = order.subarray(0, idle);
    if (surplus < idle) candidates.sort((a, b) => ranks[a] - ranks[b] || a - b);
    for (let i = 0; i < surplus; i++) this.release(cache, candidates[i]);
  }
}
