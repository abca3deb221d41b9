/**
 * A stored form of KV other than the model's own precision: its bytes, the flops of turning it back, and the
 * real arithmetic, so that the error of an attention output over coded KV is measured, not assumed.
 */

/** K and V of a run of tokens of one KV head in coded form. */
export interface CodedBlock {
  readonly tokens: number;
  /** Writes the decoded rows, row-major [tokens, headDim]. */
  decodeKeys(out: Float32Array): void;
  decodeValues(out: Float32Array): void;
}

export interface Codec {
  readonly name: string;
  readonly title: string;
  /** Payload bytes per token of one KV head, scales excluded. */
  kBytesPerToken(headDim: number): number;
  vBytesPerToken(headDim: number): number;
  /** Bytes of scales and offsets of one block of `tokens` tokens. */
  scaleBytes(headDim: number, tokens: number): number;
  /** Flops of decoding one token's K and V. */
  decodeFlopsPerToken(headDim: number): number;
  /** Codes rows [from, from + tokens) of keys and values (row-major, headDim columns). */
  encode(keys: Float32Array, values: Float32Array, headDim: number, from: number, tokens: number): CodedBlock;
}
