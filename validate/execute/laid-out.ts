/**
 * A program with its attention as it was laid out: the pages in which rows can be addressed, and how long each row is. A
 * policy says how much is attended to; where that lies is known once it has been placed, and kernels take longer for rows
 * that end within a block's share of the tokens.
 */
import type { AttendOperation, Operation } from '../../sim/program/operation.ts';
import type { BoundStep } from './bind.ts';
import { type Attended, type FormRows, isEmpty } from './bind-attention.ts';

/** Tokens of each row of the first sequence; all sequences are alike. */
const lengthsOf = ({ rows }: FormRows, sequences: number): readonly number[] =>
  rows
    .slice(0, rows.length / sequences)
    .map((row) => row.reduce((tokens, { spans }) => tokens + spans.tokens, 0));

const attendLaidOut = ({ operation, forms }: Attended): AttendOperation => {
  const read = forms.filter((form) => form.format !== null && !isEmpty(form));
  if (operation.where === 'cpu' || read.length === 0) return operation;
  const laid = { ...operation, pageTokens: Math.min(...read.map(({ pageTokens }) => pageTokens)) };
  const [only, other] = read;
  // What is read by several kernels is longer than each of their rows.
  if (other !== undefined || operation.coded !== undefined) return laid;
  const lengths = lengthsOf(only, operation.sequences);
  const uneven = lengths.some((tokens) => tokens !== lengths[0]);
  // Where KV is kept once a query head, each of those has a row.
  return { ...laid, kvHeads: lengths.length, ...(uneven ? { rowTokens: lengths } : {}) };
};

/** The operations that a bound step runs, in the program's order. */
export const laidOut = ({ workload, groups }: BoundStep): readonly Operation[] => {
  const operations = [...workload.program.operations];
  for (const { attended } of groups) for (const one of attended) operations[one.at] = attendLaidOut(one);
  return operations;
};
