/**
 * What one KV head stores in coded form: runs of keys and of values, coded when a selection first touches them (rows
 * never change) and decoded again for measuring. Decoded rows are kept while they fit a budget, since selections
 * change slowly from step to step.
 */
import { SimError } from '../error.ts';
import type { Codec, CodedBlock } from '../policy/codec.ts';
import type { DecodedRows } from '../quality/measure-room.ts';
import type { Selection } from '../quality/selection.ts';

/** Tokens that were coded together. */
interface CodedRange {
  readonly from: number;
  readonly tokens: number;
  readonly codec: Codec;
  block: CodedBlock | null;
}

/** Neighbouring ranges whose rows are decoded into one piece. */
interface Run {
  readonly ranges: CodedRange[];
  readonly from: number;
  tokens: number;
  rows: Float32Array | null;
  /** Squared distance of each decoded row from its own. */
  errors: Float32Array;
  /** Ranges of which `rows` holds the rows. */
  decodedRanges: number;
  /** When the run was last touched, in calls. */
  touched: number;
}

/** Short ranges share a run up to this many tokens: a policy that codes token by token makes thousands. */
const RUN_TOKENS = 64;
/** Decoded rows that one head keeps of its keys, and of its values, beyond those of the current step. */
const KEPT_BYTES = 8 * 2 ** 20;

/** What a head's rows are coded from. */
export interface CodedSource {
  readonly keys: Float32Array;
  readonly values: Float32Array | null;
}

/** The keys, or the values, of a head that are coded. */
class CodedPart {
  /** Token → stored in coded form. */
  readonly isCoded: Uint8Array;
  private readonly decodeInto: (range: CodedRange, out: Float32Array) => void;
  /** The head's own rows; null when the trace has none. */
  private readonly source: Float32Array | null;
  private readonly headDim: number;
  private runs: Run[] = [];
  private calls = 0;
  private keptBytes = 0;

  constructor(
    source: Float32Array | null,
    headDim: number,
    capacityTokens: number,
    decodeInto: (range: CodedRange, out: Float32Array) => void,
  ) {
    this.isCoded = new Uint8Array(capacityTokens);
    this.source = source;
    this.headDim = headDim;
    this.decodeInto = decodeInto;
  }

  add(range: CodedRange): void {
    const end = range.from + range.tokens;
    if (this.isCoded.subarray(range.from, end).includes(1)) this.replace(range.from, end);
    this.isCoded.fill(1, range.from, end);
    const last = this.runs.at(-1);
    const adjoins = last !== undefined && last.from + last.tokens === range.from;
    if (adjoins && last.tokens + range.tokens <= RUN_TOKENS) {
      last.ranges.push(range);
      last.tokens += range.tokens;
      return;
    }
    const { from, tokens } = range;
    const errors = new Float32Array(0);
    this.runs.push({ ranges: [range], from, tokens, rows: null, errors, decodedRanges: 0, touched: 0 });
  }

  /** Decoded rows of the runs that the selection touches. */
  decodedIn(selection: Selection): readonly DecodedRows[] {
    this.calls++;
    const pieces: DecodedRows[] = [];
    for (const run of this.runs) {
      if (!selection.touches(run.from, run.from + run.tokens)) continue;
      run.touched = this.calls;
      const rows = this.rowsOf(run);
      pieces.push({ from: run.from, tokens: run.tokens, rows, squaredErrors: run.errors });
    }
    if (this.keptBytes > KEPT_BYTES) this.forgetUntouched();
    return pieces;
  }

  /** Coded rows that are coded anew: whole runs only, because a part of a block has no form of its own. */
  private replace(from: number, to: number): void {
    this.runs = this.runs.filter((run) => {
      const end = run.from + run.tokens;
      if (end <= from || run.from >= to) return true;
      if (run.from < from || end > to) {
        throw new SimError(
          'not-supported',
          `tokens ${from} to ${to} coded anew, but ${run.from} to ${end} were coded together`,
        );
      }
      this.forget(run);
      return false;
    });
  }

  private rowsOf(run: Run): Float32Array {
    if (run.rows === null) {
      const capacity = Math.max(run.tokens, RUN_TOKENS);
      run.rows = new Float32Array(capacity * this.headDim);
      run.errors = new Float32Array(capacity);
      run.decodedRanges = 0;
      this.keptBytes += run.rows.byteLength;
    }
    for (; run.decodedRanges < run.ranges.length; run.decodedRanges++) {
      const range = run.ranges[run.decodedRanges];
      const at = (range.from - run.from) * this.headDim;
      const rows = run.rows.subarray(at, at + range.tokens * this.headDim);
      this.decodeInto(range, rows);
      this.addErrors(range, rows, run.errors.subarray(range.from - run.from));
    }
    return run.rows;
  }

  private addErrors({ from, tokens }: CodedRange, rows: Float32Array, errors: Float32Array): void {
    if (this.source === null) return;
    const d = this.headDim;
    for (let t = 0, i = 0, own = from * d; t < tokens; t++) {
      let square = 0;
      for (const end = i + d; i < end; i++, own++) {
        const error = rows[i] - this.source[own];
        square += error * error;
      }
      errors[t] = square;
    }
  }

  private forgetUntouched(): void {
    for (const run of this.runs) if (run.touched !== this.calls) this.forget(run);
  }

  private forget(run: Run): void {
    this.keptBytes -= run.rows?.byteLength ?? 0;
    run.rows = null;
  }
}

export class CodedRanges {
  readonly keys: CodedPart;
  readonly values: CodedPart;
  private readonly source: CodedSource;
  private readonly headDim: number;

  constructor(source: CodedSource, headDim: number, capacityTokens: number) {
    this.source = source;
    this.headDim = headDim;
    this.keys = new CodedPart(source.keys, headDim, capacityTokens, (range, out) =>
      this.blockOf(range).decodeKeys(out),
    );
    this.values = new CodedPart(source.values, headDim, capacityTokens, (range, out) =>
      this.blockOf(range).decodeValues(out),
    );
  }

  /** Tokens [from, to) take a coded form, coded as one block. */
  add(from: number, to: number, codec: Codec): void {
    // Without values there is nothing to compare with.
    if (this.source.values === null) return;
    const range = { from, tokens: to - from, codec, block: null };
    if (codec.keeps !== 'keys') this.keys.add(range);
    if (codec.keeps !== 'values') this.values.add(range);
  }

  private blockOf(range: CodedRange): CodedBlock {
    const { keys, values } = this.source;
    const { from, tokens, codec } = range;
    range.block ??= codec.encode(keys, values ?? keys, this.headDim, from, tokens);
    checkDecodes(range.block, codec.name);
    return range.block;
  }
}

/** A codec comes with its decoder, or the error of what it stores could not be measured. */
const checkDecodes = (block: CodedBlock, name: string): void => {
  for (const decoder of ['decodeKeys', 'decodeValues'] as const) {
    if (typeof block?.[decoder] !== 'function') {
      throw new SimError(
        'invalid-input',
        `codec ${name}: expected encode to return a block with a function ${decoder}`,
      );
    }
  }
};
