/**
 * What most quantised caches do over time: everything but the first tokens and a raw tail of recent ones is coded, the
 * prompt at once and later tokens block by block as they leave the tail.
 */
import { type Rope, rotate, unrotate } from '../trace/rope.ts';
import type { Codec } from './codec.ts';
import type { HeadView, LayerPolicy } from './policy.ts';

export interface CodedTail {
  /** First tokens that stay raw. */
  readonly sinkTokens: number;
  /** Most recent tokens that stay raw at least. */
  readonly residualTokens: number;
  /** Tokens coded together once they have left the tail, and while the prompt is coded. */
  readonly blockTokens: number;
  readonly promptBlockTokens: number;
}

/** Codes what leaves the tail into stored form 1; `table` bytes are held beside each head. */
export const codeBehindTail = (tail: CodedTail, tableBytes: number): LayerPolicy => {
  let coded = tail.sinkTokens;
  const code = (heads: readonly HeadView[], end: number, blockTokens: number): void => {
    const first = coded;
    for (let from = first; from + Math.min(blockTokens, end - first) <= end; from = coded) {
      if (from >= end) return;
      coded = Math.min(end, from + blockTokens);
      for (const { cache } of heads) cache.recode(from, coded, 1);
    }
  };
  return {
    onPrefill({ heads, length }) {
      code(heads, length - tail.residualTokens, tail.promptBlockTokens);
      if (tableBytes > 0) for (const { cache } of heads) cache.setMeta('tables', 'hbm', tableBytes);
    },
    onAppend({ heads, length }) {
      if (length - tail.residualTokens >= coded + tail.blockTokens)
        code(heads, coded + tail.blockTokens, tail.blockTokens);
    },
  };
};

interface Unrotated {
  readonly rows: Float32Array;
  /** Rows [0, tokens) are unrotated. */
  tokens: number;
}

/** The codec on keys as they were before rotary embedding; decoded keys are rotated to their positions again. */
export const codeBeforeRope = (codec: Codec, rope: Rope): Codec => {
  // Tables are learned by array: all blocks of a head must come from one array of unrotated rows.
  const unrotated = new WeakMap<Float32Array, Unrotated>();
  const rowsOf = (keys: Float32Array, headDim: number, end: number): Float32Array => {
    const known = unrotated.get(keys) ?? { rows: new Float32Array(keys.length), tokens: 0 };
    unrotated.set(keys, known);
    const { rows, tokens } = known;
    if (end > tokens) {
      rows.set(keys.subarray(tokens * headDim, end * headDim), tokens * headDim);
      unrotate(rows.subarray(tokens * headDim), end - tokens, tokens, rope);
      known.tokens = end;
    }
    return rows;
  };
  return {
    ...codec,
    isTurned: true,
    // A rotation takes three flops a channel.
    decodeFlopsPerToken: (headDim) => codec.decodeFlopsPerToken(headDim) + 3 * headDim,
    encode(keys, values, headDim, from, tokens) {
      const end = Math.max(from + tokens, codec.learnTokens ?? 0);
      const block = codec.encode(rowsOf(keys, headDim, end), values, headDim, from, tokens);
      return {
        ...block,
        decodeKeys(out) {
          block.decodeKeys(out);
          rotate(out, tokens, from, rope);
        },
      };
    },
  };
};
