/**
 * ParisKV's data-independent index of one KV head: keys are rotated (random signs, Hadamard), cut into subspaces of
 * 8 channels and stored as a sign byte, 4-bit magnitudes and one weight per subspace. Search counts collisions with
 * the query's nearest sign patterns, then reranks candidates with the 4-bit codes.
 * amy-77/ParisKV cache_hub/polar_cache.py, collision_fused/collision.cu, rerank/rerank.cu.
 */
import { roundToHalf } from './group-quantiser.ts';
import { CENTRES, CODES, codeSubvector, paddedDim, Rotation, SUBSPACE } from './rotated-code.ts';

const CENTROIDS = 256;
/** Weights 6..1 go to centroids until these shares of the ρ·n nearest keys are covered. */
const TIER_SHARES = [0.05, 0.15, 0.3, 0.5, 0.75, 1];

export class ParisIndex {
  /** Channels after padding to a power of two, and subspaces of 8 of them. */
  readonly dim: number;
  readonly subspaces: number;
  readonly ids: Uint8Array;
  private readonly codes: Uint8Array;
  private readonly weights: Float32Array;
  /** Keys per centroid and subspace among the encoded ones. */
  private readonly counts: Int32Array;
  private readonly rotation: Rotation;
  private readonly headDim: number;
  private readonly rotated: Float64Array;
  private readonly query: Float64Array;
  private readonly tier: Uint8Array;
  /** Per channel and code, what it adds to the query's product. */
  private readonly terms: Float64Array;
  private readonly order = new Int32Array(CENTROIDS);
  private readonly spareOrder = new Int32Array(CENTROIDS);
  private readonly cost = new Float64Array(CENTROIDS);
  private readonly spareCost = new Float64Array(CENTROIDS);
  /** First encoded position and one past the last. */
  from = 0;
  to = 0;

  constructor(maxTokens: number, headDim: number, from: number) {
    this.headDim = headDim;
    this.rotation = new Rotation(headDim);
    const { dim } = this.rotation;
    this.dim = dim;
    this.subspaces = dim / SUBSPACE;
    this.from = from;
    this.to = from;
    this.ids = new Uint8Array(maxTokens * this.subspaces);
    this.codes = new Uint8Array(maxTokens * dim);
    this.weights = new Float32Array(maxTokens * this.subspaces);
    this.counts = new Int32Array(this.subspaces * CENTROIDS);
    this.rotated = new Float64Array(dim);
    this.query = new Float64Array(dim);
    this.tier = new Uint8Array(this.subspaces * CENTROIDS);
    this.terms = new Float64Array(dim * CODES);
  }

  /** Highest collision score of a key: the best tier in every subspace. */
  static maxScore(subspaces: number): number {
    return TIER_SHARES.length * subspaces;
  }

  /** Index bytes per key: ids, 4-bit codes, 16-bit weights. */
  static bytesPerKey(headDim: number): { ids: number; rerank: number } {
    const dim = paddedDim(headDim);
    return { ids: dim / SUBSPACE, rerank: dim / 2 + (2 * dim) / SUBSPACE };
  }

  /** Encodes keys [to, end). */
  encode(keys: Float32Array, end: number): void {
    for (let token = this.to; token < end; token++) this.encodeKey(keys, token);
    this.to = Math.max(this.to, end);
  }

  private encodeKey(keys: Float32Array, token: number): void {
    const { rotated: x, subspaces, codes } = this;
    this.rotation.apply(keys, token * this.headDim, x);
    for (let b = 0; b < subspaces; b++) {
      const first = b * SUBSPACE;
      const at = token * this.dim + first;
      this.weights[token * subspaces + b] = roundToHalf(codeSubvector(x, first, codes, at));
      let id = 0;
      for (let c = 0; c < SUBSPACE; c++) id |= (codes[at + c] >> 3) << c;
      this.ids[token * subspaces + b] = id;
      this.counts[b * CENTROIDS + id]++;
    }
  }

  /** Rotates the query and ranks the sign patterns of each subspace into tiers of weight 6..0. */
  prepare(query: Float64Array, rho: number): void {
    this.rotation.apply(query, 0, this.query);
    for (let c = 0; c < this.dim; c++) {
      for (let code = 0; code < CODES; code++) {
        const term = CENTRES[code & 7] * this.query[c];
        this.terms[c * CODES + code] = code & 8 ? -term : term;
      }
    }
    const wanted = rho * (this.to - this.from);
    for (let b = 0; b < this.subspaces; b++) {
      this.rankCentroids(b);
      let covered = 0;
      let level = 0;
      for (let i = 0; i < CENTROIDS; i++) {
        const id = this.order[i];
        while (level < TIER_SHARES.length && covered >= TIER_SHARES[level] * wanted) level++;
        this.tier[b * CENTROIDS + id] = TIER_SHARES.length - level;
        covered += this.counts[b * CENTROIDS + id];
      }
    }
  }

  /**
   * Sign patterns by proximity to the query, nearest first: the nearest has the query's own signs, and each flipped sign
   * costs twice its component's size, so patterns are sorted by subset sums, built by merging one component at a time.
   */
  private rankCentroids(b: number): void {
    const { query } = this;
    let nearest = 0;
    for (let c = 0; c < SUBSPACE; c++) if (query[b * SUBSPACE + c] < 0) nearest |= 1 << c;
    let [order, other] = [this.order, this.spareOrder];
    let [cost, otherCost] = [this.cost, this.spareCost];
    order[0] = nearest;
    cost[0] = 0;
    for (let c = 0, n = 1; c < SUBSPACE; c++, n *= 2) {
      const size = Math.abs(query[b * SUBSPACE + c]);
      for (let i = 0, j = 0, at = 0; at < 2 * n; at++) {
        const keep = i < n && (j === n || cost[i] <= cost[j] + size);
        other[at] = keep ? order[i] : order[j] ^ (1 << c);
        otherCost[at] = keep ? cost[i++] : cost[j++] + size;
      }
      [order, other] = [other, order];
      [cost, otherCost] = [otherCost, cost];
    }
  }

  /** Collision scores (0 .. 6·subspaces) of all encoded keys into out[0 .. to - from). */
  collide(out: Uint16Array): void {
    const { subspaces, ids, tier } = this;
    const n = this.to - this.from;
    for (let i = 0, at = this.from * subspaces; i < n; i++, at += subspaces) {
      let score = 0;
      for (let b = 0; b < subspaces; b++) score += tier[(b << 8) | ids[at + b]];
      out[i] = score;
    }
  }

  /** Estimated q·k of one encoded key from its 4-bit codes. */
  estimate(token: number): number {
    const { dim, subspaces, codes, weights, terms } = this;
    let sum = 0;
    let at = token * dim;
    for (let b = 0, term = 0; b < subspaces; b++) {
      let dot = 0;
      for (let c = 0; c < SUBSPACE; c++, term += CODES, at++) dot += terms[term + codes[at]];
      sum += dot * weights[token * subspaces + b];
    }
    return sum;
  }
}
