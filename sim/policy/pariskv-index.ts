/**
 * ParisKV's data-independent index of one KV head: keys are rotated (random signs, Hadamard), cut into subspaces of
 * 8 channels and stored as a sign byte, 4-bit magnitudes and one weight per subspace. Search counts collisions with
 * the query's nearest sign patterns, then reranks candidates with the 4-bit codes.
 * amy-77/ParisKV cache_hub/polar_cache.py, collision_fused/collision.cu, rerank/rerank.cu.
 */
import { createRandom } from '../engine/random.ts';

const SUBSPACE = 8;
const CENTROIDS = 256;
/** 3-bit magnitude quantiser of unit sub-vector components: thresholds and centres of the authors' code. */
const THRESHOLDS = [0.0843, 0.1698, 0.2578, 0.3499, 0.4487, 0.5585, 0.6901];
const CENTRES = [0.042, 0.1266, 0.213, 0.3025, 0.3973, 0.5001, 0.6169, 0.7633];
/** Weights 6..1 go to centroids until these shares of the ρ·n nearest keys are covered. */
const TIER_SHARES = [0.05, 0.15, 0.3, 0.5, 0.75, 1];
const ROTATION_SEED = 42;

/** In-place Walsh–Hadamard transform over x[at .. at + n), n a power of two, scaled by 1/√n. */
const hadamard = (x: Float64Array, n: number): void => {
  for (let half = 1; half < n; half *= 2) {
    for (let i = 0; i < n; i += 2 * half) {
      for (let j = i; j < i + half; j++) {
        const a = x[j];
        const b = x[j + half];
        x[j] = a + b;
        x[j + half] = a - b;
      }
    }
  }
  const scale = 1 / Math.sqrt(n);
  for (let i = 0; i < n; i++) x[i] *= scale;
};

export class ParisIndex {
  /** Channels after padding to a power of two, and subspaces of 8 of them. */
  readonly dim: number;
  readonly subspaces: number;
  readonly ids: Uint8Array;
  private readonly codes: Uint8Array;
  private readonly weights: Float32Array;
  /** Keys per centroid and subspace among the encoded ones. */
  private readonly counts: Int32Array;
  private readonly signs: Float64Array;
  private readonly headDim: number;
  private readonly rotated: Float64Array;
  private readonly query: Float64Array;
  private readonly tier: Uint8Array;
  private readonly proximity: Float64Array;
  private readonly order: Int32Array;
  /** First encoded position and one past the last. */
  from = 0;
  to = 0;

  constructor(maxTokens: number, headDim: number, from: number) {
    this.headDim = headDim;
    let dim = SUBSPACE;
    while (dim < headDim) dim *= 2;
    this.dim = dim;
    this.subspaces = dim / SUBSPACE;
    this.from = from;
    this.to = from;
    const random = createRandom(ROTATION_SEED, 'pariskv-signs');
    this.signs = Float64Array.from({ length: dim }, () => (random.uniform() < 0.5 ? -1 : 1));
    this.ids = new Uint8Array(maxTokens * this.subspaces);
    this.codes = new Uint8Array(maxTokens * dim);
    this.weights = new Float32Array(maxTokens * this.subspaces);
    this.counts = new Int32Array(this.subspaces * CENTROIDS);
    this.rotated = new Float64Array(dim);
    this.query = new Float64Array(dim);
    this.tier = new Uint8Array(this.subspaces * CENTROIDS);
    this.proximity = new Float64Array(CENTROIDS);
    this.order = new Int32Array(CENTROIDS);
  }

  /** Index bytes per key (ids, 4-bit codes, bf16 weights), as the authors store them. */
  static bytesPerKey(headDim: number): { ids: number; rerank: number } {
    let dim = SUBSPACE;
    while (dim < headDim) dim *= 2;
    return { ids: dim / SUBSPACE, rerank: dim / 2 + (2 * dim) / SUBSPACE };
  }

  /** Encodes keys [to, end). */
  encode(keys: Float32Array, end: number): void {
    for (let token = this.to; token < end; token++) this.encodeKey(keys, token);
    this.to = Math.max(this.to, end);
  }

  private rotate(source: Float32Array | Float64Array, at: number, out: Float64Array): void {
    out.fill(0);
    for (let c = 0; c < this.headDim; c++) out[c] = source[at + c] * this.signs[c];
    hadamard(out, this.dim);
  }

  private encodeKey(keys: Float32Array, token: number): void {
    const x = this.rotated;
    this.rotate(keys, token * this.headDim, x);
    for (let b = 0; b < this.subspaces; b++) {
      let norm = 0;
      for (let c = b * SUBSPACE; c < (b + 1) * SUBSPACE; c++) norm += x[c] * x[c];
      norm = Math.sqrt(norm);
      let id = 0;
      let agreement = 0;
      for (let c = 0; c < SUBSPACE; c++) {
        const value = x[b * SUBSPACE + c];
        const negative = value < 0 ? 1 : 0;
        id |= negative << c;
        const magnitude = norm === 0 ? 0 : Math.abs(value) / norm;
        let level = 0;
        while (level < 7 && magnitude > THRESHOLDS[level]) level++;
        agreement += magnitude * CENTRES[level];
        this.codes[token * this.dim + b * SUBSPACE + c] = (negative << 3) | level;
      }
      this.ids[token * this.subspaces + b] = id;
      // ‖k‖·r_b is the norm of the sub-vector; the correction α_b = ⟨quantised, true⟩ makes the estimate unbiased.
      this.weights[token * this.subspaces + b] = agreement === 0 ? 0 : norm / agreement;
      this.counts[b * CENTROIDS + id]++;
    }
  }

  /** Rotates the query and ranks the sign patterns of each subspace into tiers of weight 6..0. */
  prepare(query: Float64Array, rho: number): void {
    this.rotate(query, 0, this.query);
    const n = this.to - this.from;
    for (let b = 0; b < this.subspaces; b++) {
      this.rankCentroids(b);
      let covered = 0;
      for (let i = 0; i < CENTROIDS; i++) {
        const id = this.order[i];
        let level = 0;
        while (level < TIER_SHARES.length && covered >= TIER_SHARES[level] * rho * n) level++;
        this.tier[b * CENTROIDS + id] = TIER_SHARES.length - level;
        covered += this.counts[b * CENTROIDS + id];
      }
    }
  }

  private rankCentroids(b: number): void {
    const { proximity, order, query } = this;
    for (let id = 0; id < CENTROIDS; id++) {
      let sum = 0;
      for (let c = 0; c < SUBSPACE; c++)
        sum += (id >> c) & 1 ? -query[b * SUBSPACE + c] : query[b * SUBSPACE + c];
      proximity[id] = sum;
      order[id] = id;
    }
    order.sort((a, z) => proximity[z] - proximity[a] || a - z);
  }

  /** Collision scores (0 .. 6·subspaces) of all encoded keys into out[0 .. to - from). */
  collide(out: Uint8Array): void {
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
    const { dim, subspaces, codes, weights, query } = this;
    let sum = 0;
    for (let b = 0; b < subspaces; b++) {
      let dot = 0;
      for (let c = b * SUBSPACE; c < (b + 1) * SUBSPACE; c++) {
        const code = codes[token * dim + c];
        const magnitude = CENTRES[code & 7];
        dot += code & 8 ? -magnitude * query[c] : magnitude * query[c];
      }
      sum += dot * weights[token * subspaces + b];
    }
    return sum;
  }
}
