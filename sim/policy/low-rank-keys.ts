/**
 * Keys of all KV heads of a layer side by side, factored into a few directions: before rotation by position, where they
 * vary along few of them (ShadowKV, arXiv 2410.21465, section 3.1). A key is then `rank` numbers, shared by all heads.
 */
import type { Random } from '../engine/random.ts';
import { dotRows } from '../engine/simd.ts';
import { type Rope, rotate, unrotate } from '../trace/rope.ts';
import type { HeadRows } from './policy.ts';
import { principalDirections } from './principal.ts';

export interface LowRankOptions {
  readonly heads: readonly HeadRows[];
  readonly headDim: number;
  /** Tokens that are factored: 0 .. tokens-1. */
  readonly tokens: number;
  readonly rank: number;
  /** Null: keys are factored as they are cached. */
  readonly rope: Rope | null;
  /** Directions are fitted on at most this many tokens, evenly spaced. */
  readonly fitTokens: number;
  readonly random: Random;
}

/** Tokens that are laid side by side in one piece. */
const TILE_TOKENS = 4096;

export class LowRankKeys {
  readonly rank: number;
  private readonly o: LowRankOptions;
  private readonly channels: number;
  /** Orthonormal, row-major [rank, channels]. */
  private readonly basis: Float32Array;
  /** Row-major [rank, tokens]. */
  private readonly factors: Float32Array;

  constructor(options: LowRankOptions) {
    this.o = options;
    const { heads, headDim, tokens, random, fitTokens } = options;
    this.channels = heads.length * headDim;
    this.rank = Math.min(options.rank, this.channels);
    const stride = Math.ceil(tokens / fitTokens);
    const rowCount = Math.ceil(tokens / stride);
    const rows = new Float32Array(rowCount * this.channels);
    this.eachTile((tile, from, count) => {
      for (let row = Math.ceil(from / stride); row * stride < from + count; row++) {
        const at = (row * stride - from) * this.channels;
        rows.set(tile.subarray(at, at + this.channels), row * this.channels);
      }
    });
    this.basis = principalDirections({ rows, rowCount, channels: this.channels }, this.rank, random).basis;
    this.factors = new Float32Array(this.rank * tokens);
    this.eachTile((tile, from, count) => {
      dotRows({
        queries: this.basis,
        queryCount: this.rank,
        rows: tile,
        rowCount: count,
        channels: this.channels,
        out: this.factors.subarray(from),
        stride: tokens,
        scale: 1,
      });
    });
  }

  /** Rebuilt keys of tokens [from, from + count) of the head at index `at`: row-major [count, headDim]. */
  rebuildInto(at: number, from: number, count: number, out: Float32Array): void {
    const { factors, basis, rank, channels } = this;
    const { headDim, tokens, rope } = this.o;
    out.fill(0, 0, count * headDim);
    for (let r = 0; r < rank; r++) {
      const direction = r * channels + at * headDim;
      for (let token = 0; token < count; token++) {
        const factor = factors[r * tokens + from + token];
        for (let c = 0; c < headDim; c++) out[token * headDim + c] += factor * basis[direction + c];
      }
    }
    if (rope !== null) rotate(out, count, from, rope);
  }

  /** Calls `visit` with the unrotated keys of all heads of successive tokens, row-major [count, channels]. */
  private eachTile(visit: (tile: Float32Array, from: number, count: number) => void): void {
    const { heads, headDim, tokens, rope } = this.o;
    const { channels } = this;
    const tile = new Float32Array(Math.min(tokens, TILE_TOKENS) * channels);
    for (let from = 0; from < tokens; from += TILE_TOKENS) {
      const count = Math.min(TILE_TOKENS, tokens - from);
      heads.forEach(({ keys }, at) => {
        const rows = keys.slice(from * headDim, (from + count) * headDim);
        if (rope !== null) unrotate(rows, count, from, rope);
        for (let row = 0; row < count; row++)
          tile.set(rows.subarray(row * headDim, (row + 1) * headDim), row * channels + at * headDim);
      });
      visit(tile, from, count);
    }
  }
}
