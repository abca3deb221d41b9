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

/** Bytes that all passes together read and write in HBM, of one token of one KV head. */
export interface Unpacking {
  readonly readBytesPerToken: number;
  readonly writeBytesPerToken: number;
}

export interface Codec {
  readonly name: string;
  readonly title: string;
  /** Payload bytes per token of one KV head, scales excluded; throws SimError where it cannot take `headDim`. */
  kBytesPerToken(headDim: number): number;
  vBytesPerToken(headDim: number): number;
  /** Bytes of scales and offsets of one block of `tokens` tokens. */
  scaleBytes(headDim: number, tokens: number): number;
  /** Bytes of tables that all blocks of one KV head share (code books, bases); 0 when absent. */
  tableBytes?(headDim: number): number;
  /** Flops of decoding one token's K and V. */
  decodeFlopsPerToken(headDim: number): number;
  /** True where declared work turns chosen tokens into raw rows, which attention then reads; absent = it reads the coded form. */
  readonly isRebuilt?: boolean;
  /** True where keys are coded as they were before rotary embedding, and turned when they are read. */
  readonly isTurned?: boolean;
  /** Passes of their own that decode tokens before attention reads them raw; absent = attention decodes what it reads. */
  readonly unpacking?: Unpacking;
  /** The half of a token that stays in its earlier form: keys and values may be coded at different times. */
  readonly keeps?: 'keys' | 'values';
  /** Rows [0, learnTokens) are read whatever block is coded: they were all written before any was. Absent = 0. */
  readonly learnTokens?: number;
  /**
   * Codes rows [from, from + tokens) of keys and values (row-major, headDim columns). Rows before `from` may be read
   * too (tables are learned from the first of them); later ones are the future.
   */
  encode(keys: Float32Array, values: Float32Array, headDim: number, from: number, tokens: number): CodedBlock;
}

/** Bytes per token of one KV head with the scales of blocks of `blockTokens` tokens; shared tables apart. */
export const codedBytesPerToken = (codec: Codec, headDim: number, blockTokens: number): number =>
  codec.kBytesPerToken(headDim) +
  codec.vBytesPerToken(headDim) +
  codec.scaleBytes(headDim, blockTokens) / blockTokens;

/** The codec with its scales counted as payload, for policies that keep and move scales beside their block. */
export const withScales = (codec: Codec, blockTokens: number): Codec => ({
  ...codec,
  kBytesPerToken: (headDim) =>
    codec.kBytesPerToken(headDim) + codec.scaleBytes(headDim, blockTokens) / blockTokens,
  scaleBytes: () => 0,
});
