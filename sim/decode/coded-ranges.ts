/**
 * The coded runs of tokens of one KV head: coded when a selection first touches them (rows never change), decoded again
 * for measuring. Decoded rows are kept while they fit a budget, since selections change slowly from step to step.
 */
import type { Codec, CodedBlock } from '../policy/codec.ts';
import type { DecodedBlock } from '../quality/measure.ts';
import type { Selection } from '../quality/selection.ts';

interface CodedRange {
  readonly from: number;
  readonly tokens: number;
  readonly codec: Codec;
  block: CodedBlock | null;
  decoded: DecodedBlock | null;
  /** When the range was last touched, in calls. */
  touched: number;
}

/** Decoded rows that one head keeps beyond those of the current step. */
const KEPT_BYTES = 16 * 2 ** 20;

/** What a head's rows are coded from. */
export interface CodedSource {
  readonly keys: Float32Array;
  readonly values: Float32Array | null;
}

export class CodedRanges {
  /** Token → covered by a coded range. */
  readonly isCoded: Uint8Array;
  private readonly source: CodedSource;
  private readonly headDim: number;
  private readonly ranges: CodedRange[] = [];
  private calls = 0;
  private keptBytes = 0;

  constructor(source: CodedSource, headDim: number, capacityTokens: number) {
    this.source = source;
    this.headDim = headDim;
    this.isCoded = new Uint8Array(capacityTokens);
  }

  /** Tokens [from, to) take a coded form. Ranges are disjoint and come in ascending order. */
  add(from: number, to: number, codec: Codec): void {
    this.isCoded.fill(1, from, to);
    this.ranges.push({ from, tokens: to - from, codec, block: null, decoded: null, touched: 0 });
  }

  /** Decoded rows of the ranges that the selection touches; none where the trace has no values to compare with. */
  decodedIn(selection: Selection): readonly DecodedBlock[] {
    if (this.source.values === null) return [];
    this.calls++;
    const blocks: DecodedBlock[] = [];
    for (const range of this.ranges) {
      if (!selection.touches(range.from, range.from + range.tokens)) continue;
      range.touched = this.calls;
      range.decoded ??= this.decode(range, this.source.values);
      blocks.push(range.decoded);
    }
    if (this.keptBytes > KEPT_BYTES) this.forgetUntouched();
    return blocks;
  }

  private decode(range: CodedRange, values: Float32Array): DecodedBlock {
    const { from, tokens, codec } = range;
    range.block ??= codec.encode(this.source.keys, values, this.headDim, from, tokens);
    const size = tokens * this.headDim;
    const decoded = { from, tokens, keys: new Float32Array(size), values: new Float32Array(size) };
    range.block.decodeKeys(decoded.keys);
    range.block.decodeValues(decoded.values);
    this.keptBytes += 8 * size;
    return decoded;
  }

  private forgetUntouched(): void {
    for (const range of this.ranges) {
      if (range.decoded === null || range.touched === this.calls) continue;
      this.keptBytes -= 2 * range.decoded.keys.byteLength;
      range.decoded = null;
    }
  }
}
