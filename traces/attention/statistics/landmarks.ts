/** How the start of a prompt draws attention beside the first token: a chat template's marks, and early tokens at large. */

import { rotateRows } from '../../../sim/trace/rope.ts';
import { earlyAt, markPositions } from '../synthetic/rows.ts';
import { type FitSource, skippedTokens } from './fit-source.ts';
import { polar, square } from './moments.ts';

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
/** Early tokens whose keys are typical. */
const earlyRange = [4, 32] as const;

export interface SinkPull {
  readonly marks: number;
  readonly markShare: number;
  readonly earlyKey: Float64Array;
  readonly earlyPhase: Float64Array;
  readonly earlySpread: number;
}

/**
 * The start of a prompt beside the sink. Marks have nearly the sink's key, as queries see it: how many, and how far they
 * are on the way to it from the mean key. The others have a mean and a spread of their own.
 */
export function sinkPull(
  sources: readonly FitSource[],
  keyMean: Float64Array,
  sink: Float64Array,
  keyDeviation: Float64Array,
): SinkPull {
  const marks: number[] = [];
  const others: EarlyKey[] = [];
  for (const source of sources) {
    for (const [at, share] of seenShares(source, keyMean, sink).entries()) {
      const token = at + 1;
      if (share > leastMarkShare) marks.push(Math.min(share, mostMarkShare));
      else if (token >= earlyRange[0] && token < earlyRange[1]) others.push(earlyKeyOf(source, token));
    }
  }
  const early = meanEarly(others, keyMean);
  const { modulus, phase } = polar(early);
  return {
    marks: Math.min(markPositions.length, Math.round(marks.length / sources.length)),
    markShare: marks.length === 0 ? 0 : marks.reduce((a, b) => a + b) / marks.length,
    earlyKey: modulus,
    earlyPhase: phase,
    earlySpread: spreadOfEarly(others, early, keyMean, keyDeviation),
  };
}

interface EarlyKey {
  readonly key: Float32Array;
  /** How much of what is special in it is left. */
  readonly left: number;
}

const earlyKeyOf = ({ head: { keys, headDim } }: FitSource, token: number): EarlyKey => ({
  key: keys.subarray(token * headDim, (token + 1) * headDim),
  left: earlyAt(token),
});

/** Mean key of early tokens as it would be at the first one, by least squares. */
function meanEarly(keys: readonly EarlyKey[], keyMean: Float64Array): Float64Array {
  const weight = keys.reduce((sum, { left }) => sum + left * left, 0);
  if (weight === 0) return keyMean;
  return keyMean.map(
    (mean, c) => mean + keys.reduce((sum, { key, left }) => sum + left * (key[c] - mean), 0) / weight,
  );
}

/** Most that early keys may vary, over later ones. */
const mostSpread = 2;

/** Size of early keys' deviations from their own mean over that of others, as it would be at the first token. */
function spreadOfEarly(
  keys: readonly EarlyKey[],
  early: Float64Array,
  keyMean: Float64Array,
  keyDeviation: Float64Array,
): number {
  if (keys.length === 0) return 1;
  let excess = 0;
  for (const { key, left } of keys) {
    let energy = 0;
    for (let c = 0; c < key.length; c++) {
      const own = key[c] - keyMean[c] - left * (early[c] - keyMean[c]);
      energy += square(own / keyDeviation[c]) / key.length;
    }
    excess += (Math.sqrt(energy) - 1) / left / keys.length;
  }
  return Math.min(mostSpread, Math.max(0, 1 + excess));
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
