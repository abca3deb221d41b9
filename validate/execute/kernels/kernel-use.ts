/**
 * How declared work becomes a call of the kernel that does it. Sizes come from the operation's `call`; places are made
 * here, and what one call of a layer leaves for the next (tiers, counts, candidates, scores) is handed on by name.
 */
import type { KernelCall } from '../../../sim/program/operation.ts';
import type { Binding } from '../binding.ts';

/** What a call is made from: the layer's rows, and the counts of one of them. */
export interface KernelUse {
  readonly binding: Binding;
  /** Sequences x KV heads. */
  readonly rows: number;
  readonly batch: number;
  readonly kvHeads: number;
  /** Query heads that share a row. */
  readonly group: number;
  readonly headDim: number;
  /** True where the selection that follows has one row a query head. */
  readonly perQuery: boolean;
  readonly call: KernelCall;
}

/** Bytes that a call reads and writes, all rows: its inputs once and its outputs once, but for what calls hand on. */
export interface CallBytes {
  readonly read: number;
  readonly write: number;
}

/** Adds the call; null = its sizes are not those of the kernel. */
export type KernelBinder = (use: KernelUse) => CallBytes | null;

/** Names under which a layer's calls leave what its next ones take. */
export const SCORES = 'scores';
export const COUNTS = 'counts';
export const CANDIDATES = 'candidates';
export const LOGITS = 'logits';
export const PAGE_TABLE = 'page table';
export const CODES = 'codes';
/** Where attention reads rows that are laid side by side. */
export const LAID_ROWS = 'laid rows';

/** A count of one row, whole. */
export const countOf = ({ call }: KernelUse, name: string): number => Math.round(call.counts[name] ?? 0);

/** A number that all rows share; `otherwise` where the policy names none. */
export const shapeOf = ({ call }: KernelUse, name: string, otherwise = 0): number =>
  call.shape?.[name] ?? otherwise;
