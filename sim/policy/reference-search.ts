/**
 * Nearest references of [k; v] rows of one head. The run's time is bounded, not the modelled cost: distances are taken in the
 * few directions that hold most of the rows, and among at most 1024 references, evenly spread over the earlier ones.
 */
import { createRandom } from '../engine/random.ts';
import { dotRows } from '../engine/simd.ts';
import { principalDirections } from './principal.ts';
import type { ReferencePlan } from './reference-plan.ts';
import { coordinatesOf } from './subspace.ts';

/** What is nearest: the smallest distance, the largest product, or the largest cosine. */
export type Metric = 'l2' | 'dot' | 'cosine';

const SEARCH_RANK = 32;
const MOST_CANDIDATES = 1024;

/** What a result says of the search: it is each head's own, and not over everything where that would take long. */
export const searchInputs = ({ references }: ReferencePlan): string => {
  const among = references.length > MOST_CANDIDATES ? ` among ${MOST_CANDIDATES} of them at most` : '';
  return `references nearest to each head's own rows, in their ${SEARCH_RANK} main directions${among}, instead of to those of all heads`;
};

/** Every `spread`-th reference, projected; the first `count` are filled. */
interface Candidates {
  readonly spread: number;
  readonly rows: Float32Array;
  /** Half the squared length (l2), which a product less it ranks by; else 0. */
  readonly halfSquares: Float32Array;
  count: number;
}

export class ReferenceSearch {
  private readonly plan: ReferencePlan;
  private readonly metric: Metric;
  private readonly channels: number;
  private readonly rank: number;
  private readonly basis: Float32Array;
  private readonly bySpread = new Map<number, Candidates>();

  /** Directions are learned from `rows` [tokens, channels]. */
  constructor(plan: ReferencePlan, metric: Metric, rows: Float32Array, channels: number) {
    this.plan = plan;
    this.metric = metric;
    this.channels = channels;
    this.rank = Math.min(SEARCH_RANK, channels);
    const random = createRandom(1, 'reference-search');
    const sample = { rows, rowCount: rows.length / channels, channels };
    this.basis = principalDirections(sample, this.rank, random).basis;
  }

  /**
   * Positions of the `wanted` nearest references of each row, none after the row's own position first + t: row-major
   * [tokens, wanted], -1 where there are fewer. `rowAt(position)` gives a reference's row.
   */
  nearest(
    rows: Float32Array,
    first: number,
    wanted: number,
    rowAt: (position: number) => Float32Array,
  ): Int32Array {
    const tokens = rows.length / this.channels;
    const { rows: candidates, halfSquares, count, spread } = this.candidates(first + tokens, rowAt);
    const queries = coordinatesOf(rows, this.channels, tokens, this.basis);
    const scores = new Float32Array(tokens * count);
    const job = { queries, queryCount: tokens, rows: candidates, rowCount: count, channels: this.rank };
    dotRows({ ...job, out: scores, stride: count, scale: 1 });
    const found = new Int32Array(tokens * wanted).fill(-1);
    const best = new Float64Array(wanted);
    for (let t = 0; t < tokens; t++) {
      best.fill(-Infinity);
      for (let i = 0; i < count; i++) {
        const position = this.plan.references[i * spread];
        if (position > first + t) break;
        const score = scores[t * count + i] - halfSquares[i];
        if (score <= best[wanted - 1]) continue;
        let slot = wanted - 1;
        for (; slot > 0 && best[slot - 1] < score; slot--) {
          best[slot] = best[slot - 1];
          found[t * wanted + slot] = found[t * wanted + slot - 1];
        }
        best[slot] = score;
        found[t * wanted + slot] = position;
      }
    }
    return found;
  }

  /** References below `end`, spread so that they are not too many. */
  private candidates(end: number, rowAt: (position: number) => Float32Array): Candidates {
    const { rank, metric } = this;
    const { references } = this.plan;
    const visible = this.plan.countBefore(end);
    let spread = 1;
    while (visible / spread > MOST_CANDIDATES) spread *= 2;
    const size = Math.ceil(references.length / spread);
    const known: Candidates = this.bySpread.get(spread) ?? {
      spread,
      rows: new Float32Array(size * rank),
      halfSquares: new Float32Array(size),
      count: 0,
    };
    this.bySpread.set(spread, known);
    const count = Math.ceil(visible / spread);
    for (; known.count < count; known.count++) {
      const row = coordinatesOf(rowAt(references[known.count * spread]), this.channels, 1, this.basis);
      let squares = 0;
      for (const x of row) squares += x * x;
      if (metric === 'cosine' && squares > 0) for (let c = 0; c < rank; c++) row[c] /= Math.sqrt(squares);
      known.rows.set(row, known.count * rank);
      known.halfSquares[known.count] = metric === 'l2' ? squares / 2 : 0;
    }
    return { ...known, count };
  }
}
