/**
 * How much one step's choice of a KV head resembles earlier ones. Jaccard index |T_t ∩ T_{t-1}| / |T_t ∪ T_{t-1}|, and the
 * hit curve of a least-recently-used hot set: a token's reuse distance is the number of tokens used as recently as it or
 * more recently, so a hot set of that many tokens still holds it (Mattson et al. 1970, with a step as the unit of time).
 * The curve predicts the miss rate of any hot-set size. T is the union over the group: what has to be in HBM.
 */
import type { Selection } from './selection.ts';

const DISTANCE_BINS = 32;

/** Sums over all heads of a policy. */
export class Locality {
  private jaccardSum = 0;
  private pairs = 0;
  private uses = 0;
  /** Uses by ceil(log2) of their reuse distance; first uses are in none. */
  private readonly reused = new Float64Array(DISTANCE_BINS);

  addPair(jaccard: number): void {
    this.jaccardSum += jaccard;
    this.pairs++;
  }

  addUse(distanceTokens: number | null): void {
    this.uses++;
    if (distanceTokens !== null) this.reused[32 - Math.clz32(Math.max(1, distanceTokens) - 1)]++;
  }

  /** Mean Jaccard index and hit ratios of hot sets by size; null when no choice followed another. */
  summary(): {
    readonly jaccard: number;
    readonly reuse: readonly { readonly hotTokens: number; readonly hitRatio: number }[];
  } | null {
    if (this.pairs === 0) return null;
    let hits = 0;
    const curve = Array.from(this.reused, (count, bin) => {
      hits += count;
      return { hotTokens: 2 ** bin, hitRatio: this.uses === 0 ? 0 : hits / this.uses };
    });
    const first = this.reused.findIndex((count) => count > 0);
    const last = this.reused.findLastIndex((count) => count > 0);
    const reuse = first < 0 ? [] : curve.slice(first, last + 1);
    return { jaccard: this.jaccardSum / this.pairs, reuse };
  }
}

/** The choices of one KV head in a row. Heads that attend to all that is live make no choice. */
export class HeadLocality {
  private readonly totals: Locality;
  /** Token → the choice that took it last, plus 1; 0 = never. */
  private readonly lastUse: Int32Array;
  /** By choice: tokens of which it was the last use. */
  private readonly lastUses: number[] = [0];
  private readonly distances: number[] = [];
  private choices = 0;
  private previousSize = 0;

  constructor(totals: Locality, capacityTokens: number) {
    this.totals = totals;
    this.lastUse = new Int32Array(capacityTokens);
  }

  /** Counts a choice against earlier ones, unless steps between were left out: it then only goes before the next. */
  add(selection: Selection, liveTokens: number, isAdjacent: boolean): void {
    if (selection.all) return;
    if (!selection.perQuery && selection.list(0) === liveTokens) return;
    this.rankRecency();
    const choice = ++this.choices;
    const counts = choice > 1 && isAdjacent;
    this.lastUses[choice] = 0;
    let size = 0;
    let shared = 0;
    const use = (token: number): void => {
      const last = this.lastUse[token];
      if (counts) this.totals.addUse(last === 0 ? null : this.distances[last]);
      if (last === choice - 1 && last > 0) shared++;
      this.lastUses[last]--;
      this.lastUses[choice]++;
      this.lastUse[token] = choice;
      size++;
    };
    if (selection.perQuery) {
      for (let token = 0; token < selection.length; token++) if (selection.marks[token] !== 0) use(token);
    } else {
      const count = selection.list(0);
      for (let i = 0; i < count; i++) use(selection.positions[i]);
    }
    const union = size + this.previousSize - shared;
    if (counts && union > 0) this.totals.addPair(shared / union);
    this.previousSize = size;
  }

  /** Reuse distance of a token by the choice that took it last. */
  private rankRecency(): void {
    let tokens = 0;
    for (let choice = this.choices; choice > 0; choice--) {
      tokens += this.lastUses[choice];
      this.distances[choice] = tokens;
    }
  }
}
