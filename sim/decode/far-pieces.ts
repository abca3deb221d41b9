/**
 * How densely chosen rows lie in host memory: the pieces of it that a kernel visits which reads them over the link. Each
 * is a translation of an address, so rows that share one share its cost.
 */
import { type HeadCache, IN_DRAM, IN_HBM } from '../memory/head-cache.ts';
import type { Transfer } from '../policy/transfer.ts';
import { PIECE_BYTES } from '../program/operation.ts';
import type { Selection } from '../quality/selection.ts';

/** Distinct pieces that ascending slots of `slotBytes` lie in. */
const distinct = (slots: readonly number[], slotBytes: number): number => {
  let pieces = 0;
  let last = -1;
  for (const slot of slots) {
    const piece = Math.floor((slot * slotBytes) / PIECE_BYTES);
    if (piece !== last) pieces++;
    last = piece;
  }
  return pieces;
};

/** Slots in DRAM of what crosses the link in this step, by stored form, ascending. */
const farSlotsOf = ({ place, form, arrived, tokens, forms, farSlots }: HeadCache, selection: Selection) => {
  const slots = forms.map((): number[] => []);
  const held = forms.map(() => 0);
  for (let token = 0; token < tokens; token++) {
    if ((place[token] & IN_DRAM) === 0) continue;
    const slot = held[form[token]]++;
    const isChosen = selection.all || selection.marks[token] !== 0;
    if (isChosen && ((place[token] & IN_HBM) === 0 || arrived[token] > 0))
      slots[form[token]].push(farSlots?.[token] ?? slot);
  }
  return farSlots === null ? slots : slots.map((own) => own.sort((a, b) => a - b));
};

/** Pieces of one KV head by stored form; of a layer whose heads lie side by side, each head's part of the layer's. */
export const farPieces = (
  cache: HeadCache,
  selection: Selection,
  { joinKv, joinHeads }: Transfer,
  kvHeads: number,
): readonly number[] =>
  farSlotsOf(cache, selection).map((slots, form) => {
    const { kBytesPerToken: k, vBytesPerToken: v } = cache.forms[form];
    if (joinHeads) return distinct(slots, (k + v) * kvHeads) / kvHeads;
    return joinKv ? distinct(slots, k + v) : distinct(slots, k) + (v > 0 ? distinct(slots, v) : 0);
  });
