/** What InfiniGen's rehearsal of a layer costs: snu-comparch/InfiniGen kv_selection_controller.py, speculate_attention. */
import type { Work, World } from './policy.ts';

export interface Rehearsed {
  /** Keys of one KV head. */
  readonly tokens: number;
  /** Columns of a head that are kept of queries and keys. */
  readonly columns: number;
  /** A logit counts when it is less than this below its row's largest. */
  readonly alpha: number;
  /** Bytes of the layer's partial query weights. */
  readonly weightBytes: number;
}

/** Work of one KV head: partial queries, their products with all partial keys, the largest of each row, and the count. */
export const rehearsalWork = (
  { tokens, columns, alpha, weightBytes }: Rehearsed,
  { kBytesPerToken, headDim, groupSize, kvHeads }: World,
): Work => ({
  index: 'rehearsal',
  readBytes: { hbm: (tokens * columns * kBytesPerToken) / headDim },
  flops: 2 * columns * tokens * groupSize,
  matrixFlops: (2 * weightBytes * headDim) / kBytesPerToken / kvHeads,
  kernels: 4,
  weightBytes,
  call: { kernel: 'rehearsal', counts: { tokens }, shape: { columns, alpha } },
});
