/** What a lowering is about: a model, a policy and a batch of sequences. */
import type { StoredForm } from '../memory/head-cache.ts';
import type { ModelShape } from '../model/shape.ts';
import type { Policy } from '../policy/policy.ts';

export interface LoweringInput {
  readonly model: ModelShape;
  readonly policy: Policy;
  readonly forms: readonly StoredForm[];
  readonly batch: number;
  readonly promptTokens: number;
  /** Bytes of one activation or KV element. */
  readonly elementBytes: number;
  /**
   * KV bytes in DRAM of one layer, all sequences, over which a copy's rows are scattered: reads over much memory miss
   * translations.
   */
  readonly layerDramBytes: number;
  /** False leaves out projections, MLP and output head. */
  readonly dense: boolean;
}
