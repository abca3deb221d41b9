/**
 * The price of knowing what was attended. Fused attention kernels keep their probabilities in registers, so a policy
 * that scores keys by them either lets the attention write them out (`materialised`: eager attention) or computes
 * them a second time from queries, keys and the log-sum-exp that the fused kernel leaves (`second-pass`). Finding the
 * one token with the least score rides along as a reduction; only evictions in bulk need a top-k.
 */
import * as z from 'zod';
import type { Work, World } from './policy.ts';

export const columnsField = z
  .enum(['second-pass', 'materialised'])
  .default('second-pass')
  .describe('where probabilities come from: a second pass over the keys, or attention that writes them out');

export interface ColumnRequest {
  readonly columns: z.infer<typeof columnsField>;
  /** Keys of one KV head that each of its query heads is scored on. */
  readonly tokens: number;
  /** Query tokens whose probabilities are summed over each key; a mean where causality makes it vary. */
  readonly queries: number;
  /** Copies of each key that are read, each with its own score: query heads where KV is replicated, else 1. */
  readonly copies?: number;
  /** Bytes of score state per stored key, read and written back. */
  readonly stateBytes: number;
}

/** Work of one KV head. Per key, query and query head: 2 d flops for the product (second pass), 2 to exponentiate and add. */
export const columnWork = (request: ColumnRequest, { groupSize, headDim, kBytesPerToken }: World): Work => {
  const { columns, tokens, queries, copies = 1, stateBytes } = request;
  const entries = tokens * queries * groupSize;
  const state = tokens * copies * stateBytes;
  const isSecondPass = columns === 'second-pass';
  const probabilityBytes = isSecondPass ? 0 : entries * (kBytesPerToken / headDim);
  const keyBytes = isSecondPass ? tokens * copies * kBytesPerToken : 0;
  const products = isSecondPass ? 2 * headDim * entries : 0;
  // Many queries at a time make a matrix product of the second pass; one query a step does not.
  const isMatrix = queries > 1;
  return {
    index: 'attention-columns',
    readBytes: { hbm: keyBytes + probabilityBytes + state },
    writeBytes: { hbm: probabilityBytes + state },
    flops: 2 * entries + (isMatrix ? 0 : products),
    ...(isMatrix ? { matrixFlops: products } : {}),
    kernels: 2,
    ...(isSecondPass && !isMatrix
      ? { call: { kernel: 'dot-shares', counts: { count: tokens }, shape: { copies, sum: 1 } } }
      : {}),
  };
};
