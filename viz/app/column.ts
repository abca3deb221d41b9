/** A column of the comparison: what it shows of a policy, and how it explains itself. */
import type { PolicyResult } from '../../sim/result.ts';

export interface Column {
  readonly title: string;
  readonly unit: string;
  readonly help: string;
  /** Sorts the column and sizes the bar; null = not known. */
  readonly value: (policy: PolicyResult) => number | string | null;
  readonly text: (policy: PolicyResult) => string;
  /** A second, quieter line. */
  readonly detail?: (policy: PolicyResult) => string;
  /** What a full bar means; without it the cell has no bar. */
  readonly bar?: 'largest' | 'one';
  /** Shown on request: all columns together are wider than a window. */
  readonly extra?: boolean;
}
