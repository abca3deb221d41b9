/**
 * Locality-sensitive hashing of one KV head's keys by signs of random projections: K signs make a code, and each of L
 * tables lists its keys by code. A key is sampled when it shares the query's code in enough tables; how likely that was
 * follows from the angle alone, so its weight can be corrected. MagicPIG, arXiv 2410.16179; library/lsh/lsh.cc,
 * library/sparse_attention/sparse_attention.cc.
 */

import { pow } from '../engine/math.ts';
import type { Random } from '../engine/random.ts';
import { dotRows } from '../engine/simd.ts';
import { roundToBf16 } from './group-quantiser.ts';
import type { RowSet } from './k-means.ts';

/** Coefficients of arccos x = √(1 - x) · Σ aᵢ xⁱ for x in 0..1, error 2e-8 (Abramowitz & Stegun 4.4.46). */
const ARC_COSINE = [
  1.570796305, -0.2145988016, 0.0889789874, -0.0501743046, 0.030891881, -0.0170881256, 0.0066700901,
  -0.0012624911,
];

const arcCosine = (x: number): number => {
  const size = Math.min(1, Math.abs(x));
  let sum = 0;
  for (let i = ARC_COSINE.length - 1; i >= 0; i--) sum = sum * size + ARC_COSINE[i];
  const angle = Math.sqrt(1 - size) * sum;
  return x < 0 ? Math.PI - angle : angle;
};

/** Chance that two vectors of this cosine share the code in at least `collisions` of the tables; 1, else 2. */
export const samplingChance = (
  cosine: number,
  hashes: number,
  tables: number,
  collisions: number,
): number => {
  const same = pow(1 - arcCosine(cosine) / Math.PI, hashes);
  const other = 1 - same;
  return collisions === 1 ? 1 - pow(other, tables) : 1 - pow(other, tables - 1) * (tables * same + other);
};

const TILE_ROWS = 256;

/** What a query found: the first `count` of `rows`, in the order of finding, after reading `probes` listed keys. */
export interface Sampled {
  readonly rows: Int32Array;
  count: number;
  probes: number;
}

export class LshIndex {
  readonly count: number;
  private readonly channels: number;
  private readonly hashes: number;
  private readonly tables: number;
  /** Row-major [tables · hashes, channels]. */
  private readonly projections: Float32Array;
  /** Row-major [tables, 2^hashes + 1]: where the keys of each code begin in the table's list. */
  private readonly starts: Int32Array;
  /** Row-major [tables, count]: keys by code. */
  private readonly postings: Int32Array;
  private readonly seen: Uint8Array;
  private readonly sampled: Sampled;

  /** Codes have `hashes` bits, at most 16. */
  constructor(source: RowSet, hashes: number, tables: number, random: Random) {
    this.count = source.count;
    this.channels = source.channels;
    this.hashes = hashes;
    this.tables = tables;
    const projections = new Float32Array(tables * hashes * source.channels);
    random.fillNormal(projections);
    // As Infini-AI-Lab/MagicPIG models/attnserver.py keeps them.
    this.projections = projections.map(roundToBf16);
    this.starts = new Int32Array(tables * (2 ** hashes + 1));
    this.postings = new Int32Array(tables * source.count);
    this.seen = new Uint8Array(source.count);
    this.sampled = { rows: new Int32Array(source.count), count: 0, probes: 0 };
    this.list(this.codesOf(source));
  }

  /** Codes of rows: row-major [tables, count]. */
  private codesOf({ rows, count, channels }: RowSet): Uint16Array {
    const { hashes, tables, projections } = this;
    const codes = new Uint16Array(tables * count);
    const products = new Float32Array(tables * hashes * Math.min(TILE_ROWS, count));
    for (let from = 0; from < count; from += TILE_ROWS) {
      const n = Math.min(TILE_ROWS, count - from);
      dotRows({
        queries: projections,
        queryCount: tables * hashes,
        rows: rows.subarray(from * channels, (from + n) * channels),
        rowCount: n,
        channels,
        out: products,
        stride: n,
        scale: 1,
      });
      for (let table = 0, at = 0; table < tables; table++) {
        for (let bit = 0; bit < hashes; bit++) {
          const row = table * count + from;
          for (let i = 0; i < n; i++) codes[row + i] |= Number(products[at++] > 0) << bit;
        }
      }
    }
    return codes;
  }

  private list(codes: Uint16Array): void {
    const { count, tables, starts, postings } = this;
    const buckets = 2 ** this.hashes;
    const next = new Int32Array(buckets);
    for (let table = 0; table < tables; table++) {
      const own = codes.subarray(table * count, (table + 1) * count);
      const first = starts.subarray(table * (buckets + 1), (table + 1) * (buckets + 1));
      for (const code of own) first[code + 1]++;
      for (let code = 0; code < buckets; code++) first[code + 1] += first[code];
      next.set(first.subarray(0, buckets));
      for (let i = 0; i < count; i++) postings[table * count + next[own[i]]++] = i;
    }
  }

  /** Keys that share the query's code in at least `collisions` tables. Valid until the next call. */
  sample(query: Float32Array, collisions: number): Sampled {
    const { count, tables, starts, postings, seen, sampled } = this;
    const codes = this.codesOf({ rows: query, count: 1, channels: this.channels });
    const stride = 2 ** this.hashes + 1;
    seen.fill(0);
    sampled.count = 0;
    sampled.probes = 0;
    for (let table = 0; table < tables; table++) {
      const bucket = table * stride + codes[table];
      for (let at = starts[bucket]; at < starts[bucket + 1]; at++) {
        const key = postings[table * count + at];
        if (++seen[key] === collisions) sampled.rows[sampled.count++] = key;
        else if (seen[key] > collisions) seen[key] = collisions;
      }
      sampled.probes += starts[bucket + 1] - starts[bucket];
    }
    return sampled;
  }

  /** Bytes of the lists (4 a key and table) and of the bounds of their codes (start and end, 4 each). */
  static bytes(count: number, hashes: number, tables: number): number {
    return 4 * tables * count + 8 * tables * 2 ** hashes;
  }
}
