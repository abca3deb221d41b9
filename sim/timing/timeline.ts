/** The timeline of a simulated run: one row an operation, struct-of-arrays, ready for Perfetto and the report. */
import type { StreamName } from '../program/operation.ts';

export interface Timeline {
  /** Names that the integer columns point to. */
  readonly kinds: readonly string[];
  readonly streams: readonly StreamName[];
  readonly startNs: Float64Array;
  readonly endNs: Float64Array;
  readonly kind: Uint8Array;
  readonly stream: Uint8Array;
  readonly layer: Int16Array;
  readonly step: Int32Array;
  /** Bytes that the operation moved or read (0 for pure compute). */
  readonly bytes: Float64Array;
}
