/** Which blocks a copy brings of the runs that a head chose, a share of them at a time, and where their tokens then lie. */

import type { HeadChoice, RunPlace } from '../../sim/decode/head-choice.ts';
import type { StepProgram } from '../../sim/decode/step-program.ts';
import type { Share } from '../../sim/program/operation.ts';
import { joined, type Segment, SLOT_ALIGNMENT } from './segments.ts';

export const tokensIn = (segments: readonly Segment[]): number =>
  segments.reduce((sum, { count }) => sum + count, 0);

/** Attended slots of a run list at one place and form, with the policy's own slots. */
export const runsAt = (head: HeadChoice, place: RunPlace, form: number): readonly Segment[] =>
  head.runs.filter((run) => run.place === place && run.form === form);

/** Blocks of `rowTokens` that segments touch, ascending. */
export const blocksOf = (segments: readonly Segment[], rowTokens: number): readonly number[] => {
  if (rowTokens === Infinity) return [];
  const blocks: number[] = [];
  for (const { slot, count } of segments) {
    const last = Math.floor((slot + count - 1) / rowTokens);
    for (let block = Math.floor(slot / rowTokens); block <= last; block++)
      if (blocks.at(-1) !== block) blocks.push(block);
  }
  return [...new Set(blocks)].sort((a, b) => a - b);
};

const bound = (count: number, share: number): number => Math.round(count * share);
export const sliceOf = (count: number, [from, to]: Share): number => bound(count, to) - bound(count, from);
export const shareOf = <T>(list: readonly T[], [from, to]: Share): readonly T[] =>
  list.slice(bound(list.length, from), bound(list.length, to));

/** Where attended runs of blocks lie once the blocks have landed, one every `stride` slots. */
export const landedSegments = (
  runs: readonly Segment[],
  blocks: readonly number[],
  rowTokens: number,
  stride: number,
): readonly Segment[] => {
  const places = new Map(blocks.map((block, n) => [block, n]));
  const out: Segment[] = [];
  for (const { slot, count, queries } of runs) {
    for (let at = slot; at < slot + count; ) {
      const block = Math.floor(at / rowTokens);
      const end = Math.min(slot + count, (block + 1) * rowTokens);
      const n = places.get(block);
      if (n !== undefined)
        out.push({ slot: n * stride + (at - block * rowTokens), count: end - at, queries });
      at = end;
    }
  }
  return joined(out);
};

/** Most slots that copies of one sequence's chosen tokens take, whole rows of whatever its heads fetch. */
export const landingSlots = (
  heads: readonly (readonly Segment[])[],
  { rowTokens, joinHeads, chunks = 1 }: StepProgram['transfer'],
): number => {
  let slots = 0;
  const all = new Set<number>();
  for (const runs of heads) {
    const blocks = blocksOf(runs, rowTokens);
    for (const block of blocks) all.add(block);
    slots += rowTokens === Infinity ? tokensIn(runs) : blocks.length * rowTokens;
  }
  if (joinHeads && rowTokens !== Infinity) slots = all.size * rowTokens * heads.length;
  // Pieces, and heads of what comes in one piece, are rounded up one by one.
  return slots === 0 ? 0 : slots + (chunks + 1) * heads.length * SLOT_ALIGNMENT;
};
