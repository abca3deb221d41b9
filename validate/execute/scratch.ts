/** Rows that declared work rebuilds before attention: they lie side by side in one place among the raw rows, which layers share. */
import type { HeadChoice } from '../../sim/decode/head-choice.ts';
import type { StoredForm } from '../../sim/memory/head-cache.ts';
import { byHead } from './copy-plan.ts';
import { tokensIn } from './landing.ts';
import { alignSlots, type Row, rowAt, spansOf } from './segments.ts';
import type { LayerHeads } from './workload.ts';

const rebuiltTokens = ({ runs }: HeadChoice, forms: readonly StoredForm[]): number =>
  tokensIn(runs.filter(({ form, place }) => forms[form].isRebuilt === true && place !== 'cpu'));

/** Slots that the layer with most rebuilt rows needs, of one sequence. */
export const scratchSlots = (layers: readonly LayerHeads[], forms: readonly StoredForm[]): number =>
  Math.max(
    ...layers.map(({ heads }) =>
      heads.reduce((sum, head) => sum + alignSlots(rebuiltTokens(head, forms)), 0),
    ),
  );

/** Rebuilt rows of a layer per (sequence, head), from slot `first` on. */
export const rebuiltRows = (
  heads: readonly HeadChoice[],
  forms: readonly StoredForm[],
  batch: number,
  first: number,
): readonly Row[] => {
  const pieces = byHead(heads, (head) =>
    spansOf([{ slot: 0, count: rebuiltTokens(head, forms), queries: -1 }]),
  );
  const rows: Row[] = [];
  let slot = first;
  for (let sequence = 0; sequence < batch; sequence++)
    for (const spans of pieces) {
      rows.push(rowAt(slot, spans));
      slot += alignSlots(spans.tokens);
    }
  return rows;
};
