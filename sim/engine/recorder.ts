/**
 * Records the stream of events (timeNs, kind, a, b) as it runs: always into a digest, so that two runs can be compared
 * by 64 digits, and on request into columns that can be looked at afterwards.
 */
import { createDigest } from './digest.ts';

const BUFFER_ROWS = 1024;
const ROW = 4;

export class Recorder {
  readonly #digest = createDigest();
  #rows: Float64Array;
  #count = 0;
  #flushed = 0;
  readonly #keepsRows: boolean;

  constructor(keepsRows: boolean) {
    this.#keepsRows = keepsRows;
    this.#rows = new Float64Array(BUFFER_ROWS * ROW);
  }

  /** Events recorded. */
  get events(): number {
    return this.#keepsRows ? this.#count : this.#flushed + this.#count;
  }

  record(timeNs: number, kind: number, a: number, b: number): void {
    if (this.#count * ROW === this.#rows.length) this.#makeRoom();
    const rows = this.#rows;
    const at = this.#count++ * ROW;
    rows[at] = timeNs;
    rows[at + 1] = kind;
    rows[at + 2] = a;
    rows[at + 3] = b;
  }

  #makeRoom(): void {
    if (this.#keepsRows) {
      const grown = new Float64Array(this.#rows.length * 2);
      grown.set(this.#rows);
      this.#rows = grown;
      return;
    }
    this.#digest.addFloat64(this.#rows);
    this.#flushed += this.#count;
    this.#count = 0;
  }

  /** SHA-256 over all rows so far, 32 bytes each: four little-endian doubles. */
  digest(): string {
    const from = this.#keepsRows ? this.#flushed : 0;
    this.#digest.addFloat64(this.#rows.subarray(from * ROW, this.#count * ROW));
    if (this.#keepsRows) this.#flushed = this.#count;
    else {
      this.#flushed += this.#count;
      this.#count = 0;
    }
    return this.#digest.hex();
  }

  /** Kept rows, row-major [events, 4] = timeNs, kind, a, b; empty unless asked for. A view, not a copy. */
  rows(): Float64Array {
    return this.#keepsRows ? this.#rows.subarray(0, this.#count * ROW) : new Float64Array(0);
  }
}

/** `keepRows` keeps every row in memory (32 bytes an event) beside the digest. */
export const createRecorder = (options: { readonly keepRows?: boolean } = {}): Recorder =>
  new Recorder(options.keepRows === true);
