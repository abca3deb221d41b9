/**
 * Rows that a step puts side by side among the raw ones before attention: what declared work rebuilds, or all that a layer
 * attends to where it is laid out for that. Layers share the place.
 */
import type { HeadChoice } from '../../sim/decode/head-choice.ts';
import type { StoredForm } from '../../sim/memory/head-cache.ts';
import { byHead } from './copy-plan.ts';
import { tokensIn } from './landing.ts';
import { alignSlots, joined, type Row, rowAt, type Segment, spansOf } from './segments.ts';
import type { LayerHeads } from './workload.ts';

/** Which tokens of a head are put there. */
export type ScratchOf = (head: HeadChoice) => readonly Omit<Segment, 'slot'>[];

/** Tokens of forms that work rebuilds. */
export const rebuiltOf =
  (forms: readonly StoredForm[]): ScratchOf =>
  ({ runs }) =>
    runs.filter(({ form, place }) => forms[form].isRebuilt === true && place !== 'cpu');

/** All raw rows that the GPU attends to, those that stand for others behind them. */
export const laidOf: ScratchOf = ({ runs, estimatedRows }) => [
  ...runs.filter(({ form, place }) => form === 0 && place !== 'cpu'),
  { count: estimatedRows, queries: -1 },
];

const sideBySide = (pieces: ReturnType<ScratchOf>): readonly Segment[] => {
  let slot = 0;
  return joined(
    pieces.map(({ count, queries }) => {
      slot += count;
      return { slot: slot - count, count, queries };
    }),
  );
};

/** Slots that the layer with most such rows needs, of one sequence. */
export const scratchSlots = (layers: readonly LayerHeads[], of: ScratchOf): number =>
  Math.max(
    0,
    ...layers.map(({ heads }) =>
      heads.reduce((sum, head) => sum + alignSlots(tokensIn(sideBySide(of(head)))), 0),
    ),
  );

/** Such rows of a layer per (sequence, head), from slot `first` on. */
export const scratchRows = (
  heads: readonly HeadChoice[],
  of: ScratchOf,
  batch: number,
  first: number,
): readonly Row[] => {
  const pieces = byHead(heads, (head) => spansOf(sideBySide(of(head))));
  const rows: Row[] = [];
  let slot = first;
  for (let sequence = 0; sequence < batch; sequence++)
    for (const spans of pieces) {
      rows.push(rowAt(slot, spans));
      slot += alignSlots(spans.tokens);
    }
  return rows;
};
