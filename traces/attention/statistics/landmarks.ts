/** How the start of a prompt draws attention beside the first token: a chat template's marks, and early tokens at large. */

import { quantiles } from '../../../sim/engine/stats.ts';
import { rotateRows } from '../../../sim/trace/rope.ts';
import { earlyTokens, markPositions } from '../synthetic/rows.ts';
import { type FitSource, skippedTokens } from './fit-source.ts';

/** Queries looked at in each stretch. */
const sampledQueries = 4;

/** Calls `visit` with sampled queries of all stretches and query heads, turned for each of keys from .. to. */
function visitTurned(
  { head }: FitSource,
  from: number,
  to: number,
  visit: (turned: Float32Array) => void,
): void {
  const { headDim, frequencies, stretches } = head;
  for (const { first, count, heads } of stretches) {
    const stride = Math.max(1, Math.floor(count / sampledQueries));
    for (let at = stride >> 1; at < count; at += stride) {
      for (const rows of heads) {
        const turned = new Float32Array((to - from) * headDim);
        const query = rows.subarray(at * headDim, (at + 1) * headDim);
        for (let i = 0; i < turned.length; i += headDim) turned.set(query, i);
        rotateRows(turned, to - from, frequencies, first + at - from, -1);
        visit(turned);
      }
    }
  }
}

function logitsOf(turned: Float32Array, keys: Float32Array, width: number): Float64Array {
  const scale = 1 / Math.sqrt(width);
  return Float64Array.from({ length: turned.length / width }, (_, i) => {
    let sum = 0;
    for (let c = i * width; c < (i + 1) * width; c++) sum += turned[c] * keys[c];
    return sum * scale;
  });
}

/** A key so far towards the sink's is a mark's. */
const leastMarkShare = 0.7;
const mostMarkShare = 1.2;
/** Early tokens whose place on the way to the sink is typical. */
const earlyRange = [8, 24] as const;

export interface SinkPull {
  readonly marks: number;
  readonly markShare: number;
  readonly early: number;
}

/**
 * Early keys on the way from the mean key to the sink's, as queries see it: how many of the first ones are nearly there,
 * how far those are, and how far the others have come, the median over early tokens.
 */
export function sinkPull(sources: readonly FitSource[], keyMean: Float64Array, sink: Float64Array): SinkPull {
  const marks: number[] = [];
  const others: number[] = [];
  for (const source of sources) {
    for (const [at, share] of seenShares(source, keyMean, sink).entries()) {
      const token = at + 1;
      if (share > leastMarkShare) marks.push(Math.min(share, mostMarkShare));
      else if (token >= earlyRange[0] && token < earlyRange[1]) others.push(share);
    }
  }
  const median = others.length === 0 ? 0 : quantiles(others, [0.5])[0];
  return {
    marks: Math.min(markPositions.length, Math.round(marks.length / sources.length)),
    markShare: marks.length === 0 ? 0 : marks.reduce((a, b) => a + b) / marks.length,
    early: Math.min(1, Math.max(0, median * Math.sqrt(1 + earlyRange[0] / earlyTokens))),
  };
}

/** Mean logit of each early token's deviation, over that of the sink's key in its place. */
function seenShares(source: FitSource, keyMean: Float64Array, sink: Float64Array): Float64Array {
  const width = keyMean.length;
  const [from, to] = [1, skippedTokens];
  const own = source.head.keys.subarray(from * width, to * width).map((x, i) => x - keyMean[i % width]);
  const full = Float32Array.from(own, (_, i) => sink[i % width] - keyMean[i % width]);
  const ownSum = new Float64Array(to - from);
  const fullSum = new Float64Array(to - from);
  visitTurned(source, from, to, (turned) => {
    logitsOf(turned, own, width).forEach((x, i) => {
      ownSum[i] += x;
    });
    logitsOf(turned, full, width).forEach((x, i) => {
      fullSum[i] += x;
    });
  });
  return ownSum.map((x, i) => (fullSum[i] > 0 ? x / fullSum[i] : 0));
}
