/**
 * When DeltaKV compresses what, and which tokens stay whole as references: pure functions of lengths, alike in all layers
 * and heads. CURRENTF/Sparse-vLLM at d526f0a, engine/cache_manager.py _deltakv_evict_one_seq: once the raw buffer behind
 * the compressed history holds more than `recent` tokens, whole multiples of `recent` of its oldest are compressed, and
 * the first token of each such block and every `stride`-th after it are references.
 */

export interface PlanRequest {
  readonly sinkTokens: number;
  readonly recentTokens: number;
  readonly chunkTokens: number;
  readonly stride: number;
  readonly promptTokens: number;
  readonly maxTokens: number;
}

/** End of the compressed history when `length` tokens were written. */
export const compressedEnd = (length: number, sinkTokens: number, recentTokens: number): number => {
  const blocks = Math.floor((length - sinkTokens - recentTokens) / recentTokens);
  return Math.min(length, sinkTokens + Math.max(0, blocks) * recentTokens);
};

export class ReferencePlan {
  /** Token → stays whole: sinks and every stride-th token of a compressed block. */
  readonly isReference: Uint8Array;
  /** Positions of the references, ascending, of the whole run. */
  readonly references: Int32Array;
  readonly promptTokens: number;
  private readonly request: PlanRequest;

  constructor(request: PlanRequest) {
    const { sinkTokens, chunkTokens, promptTokens, maxTokens } = request;
    this.request = request;
    this.promptTokens = promptTokens;
    this.isReference = new Uint8Array(maxTokens).fill(1, 0, Math.min(sinkTokens, maxTokens));
    let end = sinkTokens;
    for (let length = Math.min(chunkTokens, promptTokens); length <= maxTokens; ) {
      const to = this.endAt(length);
      for (let token = end; token < to; token += request.stride) this.isReference[token] = 1;
      end = Math.max(end, to);
      // The prompt comes in chunks, what follows token by token.
      length = length < promptTokens ? Math.min(length + chunkTokens, promptTokens) : length + 1;
    }
    const positions: number[] = [];
    for (let token = 0; token < maxTokens; token++) if (this.isReference[token] === 1) positions.push(token);
    this.references = Int32Array.from(positions);
  }

  /** End of the compressed history when `length` tokens were written. */
  endAt(length: number): number {
    return compressedEnd(length, this.request.sinkTokens, this.request.recentTokens);
  }

  /** References at positions below `end`. */
  countBefore(end: number): number {
    const { references } = this;
    let low = 0;
    let high = references.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (references[middle] < end) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
