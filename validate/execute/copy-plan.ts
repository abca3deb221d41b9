/**
 * Plans of copies that bring chosen tokens of a layer: which rows of its region in host memory, and where each head's
 * tokens lie once they have landed. A plan counts from its landing, so all layers of the same choice share it.
 */
import type { HeadChoice } from '../../sim/decode/head-choice.ts';
import type { StepProgram } from '../../sim/decode/step-program.ts';
import type { Share } from '../../sim/program/operation.ts';
import { blocksOf, landedSegments, runsAt, shareOf, sliceOf, tokensIn } from './landing.ts';
import { once } from './once.ts';
import { type Row, rowAt, type Spans, spansOf, WHOLE_ALIGNMENT } from './segments.ts';
import type { LayerHeads } from './workload.ts';

export interface CopyPlan {
  /** Positions of the rows in the layer's region; null = everything in one piece a sequence. */
  readonly index: Uint32Array | null;
  readonly rows: number;
  /** Slots of a row; a row that holds keys or values only counts half. */
  readonly slotsPerRow: number;
  readonly slots: number;
  /** Per row of attention (sequence, head), from the landing's first slot on. */
  readonly landed: readonly Row[];
}

export interface CopyRequest {
  readonly layer: LayerHeads;
  readonly batch: number;
  readonly form: number;
  readonly share: Share;
  readonly transfer: StepProgram['transfer'];
  /** Rows of one head in the region, keys and values together. */
  readonly blocksPerHead: number;
}

/** What follows from each head's choice; heads that share one share what follows. */
export const byHead = <T>(heads: readonly HeadChoice[], of: (head: HeadChoice) => T): readonly T[] => {
  const known = new Map<HeadChoice, T>();
  return heads.map((head) => once(known, head, () => of(head)));
};

/** Position of an entry's KV head among all of the batch in host memory. */
export const hostHead = ({ heads, copies }: LayerHeads, sequence: number, at: number): number =>
  (sequence * heads.length) / copies + Math.floor(at / copies);

const planWhole = ({ layer, batch, form, share }: CopyRequest): CopyPlan => {
  const pieces = byHead(layer.heads, (head) =>
    spansOf([{ slot: 0, count: sliceOf(tokensIn(runsAt(head, 'fetched', form)), share), queries: -1 }]),
  );
  const landed: Row[] = [];
  let slots = 0;
  for (let sequence = 0; sequence < batch; sequence++)
    for (const spans of pieces) {
      landed.push(rowAt(slots, spans));
      slots += Math.ceil(spans.tokens / WHOLE_ALIGNMENT) * WHOLE_ALIGNMENT;
    }
  return { index: null, rows: batch, slotsPerRow: slots / batch, slots, landed };
};

/** Rows of one head each; keys and values of a block in two rows where they lie apart. */
const planRows = ({ layer, batch, form, share, transfer, blocksPerHead }: CopyRequest): CopyPlan => {
  const { rowTokens, joinKv } = transfer;
  const halves = joinKv ? 1 : 2;
  const pieces = byHead(layer.heads, (head): { blocks: readonly number[]; spans: Spans } => {
    const runs = runsAt(head, 'fetched', form);
    const blocks = shareOf(blocksOf(runs, rowTokens), share);
    return { blocks, spans: spansOf(landedSegments(runs, blocks, rowTokens, rowTokens)) };
  });
  const perSequence = pieces.reduce((sum, { blocks }) => sum + blocks.length, 0);
  const index = new Uint32Array(batch * perSequence * halves);
  const landed: Row[] = [];
  let slots = 0;
  let rows = 0;
  for (let sequence = 0; sequence < batch; sequence++)
    pieces.forEach(({ blocks, spans }, at) => {
      const first = hostHead(layer, sequence, at) * blocksPerHead * halves;
      for (const block of blocks)
        for (let half = 0; half < halves; half++) index[rows++] = first + half * blocksPerHead + block;
      landed.push(rowAt(slots, spans));
      slots += blocks.length * rowTokens;
    });
  return { index, rows, slotsPerRow: rowTokens / halves, slots, landed };
};

/** Rows that hold a block of all heads: what any head asks for comes for all. */
const planJoined = ({ layer, batch, form, share, transfer, blocksPerHead }: CopyRequest): CopyPlan => {
  const { rowTokens } = transfer;
  const { heads } = layer;
  const asked = new Set<number>();
  for (const touched of byHead([...new Set(heads)], (head) =>
    blocksOf(runsAt(head, 'fetched', form), rowTokens),
  ))
    for (const block of touched) asked.add(block);
  const blocks = shareOf(
    [...asked].sort((a, b) => a - b),
    share,
  );
  const rowSlots = rowTokens * heads.length;
  const pieces = byHead(heads, (head) =>
    spansOf(landedSegments(runsAt(head, 'fetched', form), blocks, rowTokens, rowSlots)),
  );
  const rows = batch * blocks.length;
  const index = new Uint32Array(rows);
  const landed: Row[] = [];
  for (let sequence = 0; sequence < batch; sequence++) {
    const first = sequence * blocks.length;
    blocks.forEach((block, n) => {
      index[first + n] = sequence * blocksPerHead + block;
    });
    pieces.forEach((spans, at) => {
      landed.push(rowAt(first * rowSlots + at * rowTokens, spans));
    });
  }
  return { index, rows, slotsPerRow: rowSlots, slots: rows * rowSlots, landed };
};

export const planCopy = (request: CopyRequest): CopyPlan => {
  const { rowTokens, joinHeads } = request.transfer;
  if (rowTokens === Infinity) return planWhole(request);
  return joinHeads ? planJoined(request) : planRows(request);
};
