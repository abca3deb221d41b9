/**
 * What a policy says of KV outside HBM: how it lies there, how it crosses the link, and what the copy may run beside. Data
 * alone: lowering turns it into operations and edges.
 */
import type { TransferMode } from '../program/operation.ts';

/** How selected KV that is not in HBM gets to the attention, and how it lies in the slower tier. */
export interface Transfer {
  readonly mode: TransferMode;
  /** Tokens of one contiguous run; Infinity = the whole layer in one piece. */
  readonly rowTokens: number;
  /** True when runs may be shorter, because each holds what belongs together; such a run crosses as far as it goes. */
  readonly ragged?: boolean;
  /** True when all KV heads of a block lie side by side (one row a block and layer). */
  readonly joinHeads: boolean;
  /** True when K and V of a run lie side by side. */
  readonly joinKv: boolean;
  /**
   * 'step': after the selection of the same layer, the copy is waited for before attention;
   * 'stream': in `chunks` pieces, attention over the resident part and over each piece runs meanwhile;
   * 'ahead': the choice does not wait for this layer's queries, so layers are loaded ahead into `buffers` layer-sized
   * buffers; from the start, or from where `choiceLayer` says that the choice is known.
   */
  readonly overlap: 'step' | 'stream' | 'ahead';
  readonly chunks?: number;
  /** Staging buffers: of one piece each with 'stream' (default 2), of one layer each with 'ahead' (default 1). */
  readonly buffers?: number;
  /** With 'stream': the choice was made without this step's queries, so copies need not wait for it. */
  readonly speculative?: boolean;
  /**
   * With 'step': layers by which choice and copy run ahead of the layer that attends, from a guess at its queries made
   * while an earlier layer computes. The first layers of a step have no earlier one and choose for themselves.
   */
  readonly leadLayers?: number;
  /**
   * Where KV outside HBM is attended: on the GPU once it has crossed (default), or where it lies, on the CPU: then
   * queries go out, outputs with their log-sum-exp come back, and no KV crosses. A row is read once a KV head, or once
   * a query head where these choose for themselves.
   */
  readonly attendAt?: 'gpu' | 'cpu';
}
