/**
 * ParisKV's search of one KV head: keys that collide often with the query become candidates, their 4-bit codes rank
 * them, and the best win; how many may follow from how much attention they hold. amy-77/ParisKV
 * cache_hub/polar_cache.py; adaptive K: polar_cache_adaptivek_varlen.py.
 */
import { exp } from '../engine/math.ts';
import type { KernelCall } from '../program/operation.ts';
import { topKPositions } from '../quality/top-k.ts';
import { meanQuery } from './group-rows.ts';
import { ParisIndex } from './pariskv-index.ts';
import type { HeadView, Pick, World } from './policy.ts';

export interface SearchOptions {
  readonly topK: number;
  readonly leastK: number;
  readonly sinkTokens: number;
  readonly rho?: number | undefined;
  readonly beta?: number | undefined;
  readonly coverage?: number | undefined;
  readonly writeBack: boolean;
  readonly counts: 'words' | 'halves';
}

/** (β, ρ) by length of the retrieval zone (polar_cache.py, _get_adaptive_ratios). */
const searchShares = (
  zoneTokens: number,
  c: SearchOptions,
): { readonly beta: number; readonly rho: number } => {
  const [beta, rho] =
    zoneTokens < 5000
      ? [0.5, 0.5]
      : zoneTokens < 10000
        ? [0.25, 0.3]
        : zoneTokens < 30000
          ? [0.2, 0.25]
          : [0.1, 0.2];
  return { beta: c.beta ?? beta, rho: c.rho ?? rho };
};

/** Norm of a row of `d` channels; 1 where there are no rows. */
const normOf = (rows: Float32Array | null, row: number, d: number): number => {
  if (rows === null) return 1;
  let square = 0;
  for (let at = row * d; at < (row + 1) * d; at++) square += rows[at] * rows[at];
  return Math.sqrt(square);
};

export class ParisSearch {
  readonly index: ParisIndex;
  private readonly c: SearchOptions;
  private readonly world: World;
  /** 6 a subspace at most: 96 at head dimension 128, 768 where a latent row is padded to 1024 channels. */
  private readonly collisions: Uint16Array;
  private readonly candidates: Int32Array;
  private readonly estimates: Float32Array;
  private readonly winners: Int32Array;

  constructor(c: SearchOptions, world: World) {
    this.c = c;
    this.world = world;
    const size = world.maxTokens;
    this.index = new ParisIndex(size, world.headDim, c.sinkTokens);
    this.collisions = new Uint16Array(size);
    this.candidates = new Int32Array(size);
    this.estimates = new Float32Array(size);
    this.winners = new Int32Array(size);
  }

  /** Takes sinks, winners and all that follows the retrieval zone, and declares what the search reads. */
  choose(queries: Float32Array, head: HeadView, length: number, pick: Pick): void {
    const { index, c, world } = this;
    const n = index.to - index.from;
    const { beta, rho } = searchShares(n, c);
    const query = meanQuery(queries, world);
    index.prepare(query, rho);
    index.collide(this.collisions);
    const candidates = this.chooseCandidates(n, Math.ceil(beta * n));
    let least = Infinity;
    for (let i = 0; i < candidates; i++) {
      this.estimates[i] = index.estimate(this.candidates[i]);
      least = Math.min(least, this.estimates[i]);
    }
    const winners =
      c.coverage === undefined
        ? this.fixedWinners(candidates, least)
        : this.fewestCovering(query, head, length, candidates, c.coverage);
    pick.none();
    pick.take(0, c.sinkTokens);
    pick.take(index.to, length);
    for (let i = 0; i < winners; i++) {
      const token = this.candidates[this.winners[i]];
      pick.take(token, token + 1);
    }
    this.declare(pick, candidates, winners, c.sinkTokens + length - index.to);
  }

  /** The `count` highest collision scores of the zone's `n` keys, ties to earlier keys. */
  private chooseCandidates(n: number, count: number): number {
    const { collisions, index } = this;
    const highest = ParisIndex.maxScore(index.subspaces);
    const bins = new Int32Array(highest + 1);
    for (let i = 0; i < n; i++) bins[collisions[i]]++;
    let threshold = highest;
    let above = 0;
    for (; threshold > 0 && above + bins[threshold] < count; threshold--) above += bins[threshold];
    let ties = count - above;
    let chosen = 0;
    for (let i = 0; i < n; i++) {
      const score = collisions[i];
      if (score > threshold || (score === threshold && ties-- > 0))
        this.candidates[chosen++] = index.from + i;
    }
    return chosen;
  }

  /** The topK best estimates. */
  private fixedWinners(candidates: number, least: number): number {
    const { estimates, winners, c } = this;
    for (let i = 0; i < candidates; i++) estimates[i] -= least;
    return topKPositions(estimates, candidates, Math.min(c.topK, candidates), winners);
  }

  /**
   * The fewest candidates, largest benefit first, that with what is always attended cover `coverage` of all benefit; at
   * least leastK and at most topK. Benefit is softmax·‖v‖, over exact products outside the zone and estimates in it.
   */
  private fewestCovering(
    query: Float64Array,
    { keys, values }: HeadView,
    length: number,
    candidates: number,
    coverage: number,
  ): number {
    const { c, index, estimates } = this;
    const d = this.world.headDim;
    const steady = Array.from({ length: c.sinkTokens + length - index.to }, (_, i) =>
      i < c.sinkTokens ? i : i - c.sinkTokens + index.to,
    );
    const logits = steady.map((token) => {
      let product = 0;
      for (let ch = 0; ch < d; ch++) product += query[ch] * keys[token * d + ch];
      return product;
    });
    let largest = Math.max(...logits);
    for (let i = 0; i < candidates; i++) largest = Math.max(largest, estimates[i]);
    const benefitOf = (logit: number, token: number): number =>
      exp((logit - largest) / Math.sqrt(d)) * normOf(values, token, d);
    let covered = 0;
    for (const [i, token] of steady.entries()) covered += benefitOf(logits[i], token);
    const benefit = Float64Array.from({ length: candidates }, (_, i) =>
      benefitOf(estimates[i], this.candidates[i]),
    );
    const wanted = coverage * benefit.reduce((a, b) => a + b, covered);
    const most = Math.min(c.topK, candidates);
    const order = Int32Array.from(benefit, (_, i) => i).sort((a, b) => benefit[b] - benefit[a] || a - b);
    let kept = 0;
    while (kept < most && (kept < c.leastK || covered < wanted)) covered += benefit[order[kept++]];
    this.winners.set(order.subarray(0, kept));
    return kept;
  }

  /**
   * Ids once, codes of the candidates, whose decoded rows the authors' rerank kernel writes back; what is always attended
   * is laid beside the winners for attention. The authors' counts take 4 bytes, written once and read in three passes;
   * of 2 bytes, which hold any count, the selection reads what is still cached.
   */
  private declare(pick: Pick, candidates: number, winners: number, steady: number): void {
    const { c, world } = this;
    const { kBytesPerToken, vBytesPerToken } = world;
    const n = this.index.to - this.index.from;
    const bytes = ParisIndex.bytesPerKey(world.headDim);
    const { dim } = this.index;
    const shape = { dim };
    pick.score({
      index: 'collisions',
      readBytes: { hbm: n * (bytes.ids + (c.counts === 'words' ? 3 * 4 : 0)) },
      writeBytes: { hbm: c.counts === 'words' ? n * 4 : n * 2 },
      flops: n * bytes.ids + 2 * 256 * dim,
      kernels: 2,
      call: { kernel: 'paris-collide', counts: { tokens: n }, shape },
    });
    pick.topk(n, candidates, 1, 'counts');
    pick.score({
      index: 'rerank',
      readBytes: { hbm: candidates * bytes.rerank },
      writeBytes: { hbm: c.writeBack ? candidates * dim * 2 : 0 },
      flops: 2 * candidates * dim,
      kernels: 1,
      call: {
        kernel: 'paris-rerank',
        counts: { count: candidates, tokens: n },
        shape: { dim, decoded: c.writeBack ? 1 : 0 },
      },
    });
    pick.topk(candidates, winners);
    if (c.coverage !== undefined) {
      // Exact products outside the zone, and 2-byte value norms.
      const readBytes = { hbm: steady * kBytesPerToken + (candidates + steady) * 2 };
      const flops = 2 * steady * world.headDim + 10 * (candidates + steady);
      pick.score({ index: 'benefit', readBytes, flops, kernels: 3 });
    }
    const rows = { hbm: steady * (kBytesPerToken + vBytesPerToken) };
    const call: KernelCall = { kernel: 'copy', counts: { bytes: rows.hbm } };
    pick.score({ index: 'concat', readBytes: rows, writeBytes: rows, flops: 0, kernels: 2, call });
  }
}
