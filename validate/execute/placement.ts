/**
 * Where the KV of a workload lies: per stored form one pool in HBM (what each layer holds, packed, and staging areas that
 * layers share in turn) and one region a layer in host memory, in rows as the policy transfers them. Everything in
 * slots (tokens of one KV head), so that page sizes can follow from what is attended.
 */
import { FORMATS, type Format, layoutOf, pageStrideOf } from '../../kernels/formats.ts';
import type { HeadChoice } from '../../sim/decode/head-choice.ts';
import type { Share } from '../../sim/program/operation.ts';
import { blocksOf, landedSegments, landingSlots, runsAt, shareOf, sliceOf, tokensIn } from './landing.ts';
import { rebuiltRows, scratchSlots } from './scratch.ts';
import { alignSlots, joined, type Segment, WHOLE_ALIGNMENT } from './segments.ts';
import { headsOf, type LayerHeads, type Workload } from './workload.ts';

/** Rows of host memory that a copy brings, and where their slots land. */
export interface FetchPlan {
  /** Positions of the rows in the layer's region; null = everything in one piece a sequence. */
  readonly index: Uint32Array | null;
  readonly rows: number;
  /** Slots of a row; a row that holds keys or values only counts half. */
  readonly slotsPerRow: number;
  /** First slot of the landing, in the form's pool; of the source, where everything is in one piece. */
  readonly firstSlot: number;
  readonly sourceSlot: number;
  readonly slots: number;
}

interface Landing {
  readonly share: Share;
  /** Per row of attention (sequence, head). */
  readonly segments: readonly (readonly Segment[])[];
}

/** The format in which kernels read a stored form; null = no kernel reads it. */
export const formatOfForm = (name: string): Format | null => {
  if (name === 'raw') return FORMATS.bf16;
  return Object.hasOwn(FORMATS, name) ? FORMATS[name as keyof typeof FORMATS] : null;
};

/** Bytes of `slots` slots in pages of `pageTokens`. */
export const poolBytes = (format: Format, headDim: number, pageTokens: number, slots: number) =>
  Math.ceil(slots / pageTokens) * pageStrideOf(format, headDim, pageTokens);

/** Payload and scales of one token in pages of `pageTokens`. */
export const slotBytes = (format: Format, headDim: number, pageTokens: number): number =>
  layoutOf(format, headDim, pageTokens).bytes / pageTokens;

export class Placement {
  readonly layers: readonly LayerHeads[];
  /** Slots that each form's pool needs, staging included. */
  readonly poolSlots: number[];
  private readonly workload: Workload;
  /** [layer][form] first slot of (sequence 0, head 0); heads follow each other, then sequences. */
  private readonly residentSlots: readonly (readonly number[])[];
  private readonly stagingSlots: readonly (readonly number[])[];
  private readonly landings = new Map<string, Landing[]>();
  private readonly staged = new Map<string, number>();
  private readonly scratchSlot: number;

  constructor(workload: Workload) {
    this.workload = workload;
    const { program, batch } = workload;
    this.layers = program.layers.map((_, layer) => headsOf(workload, layer));
    this.poolSlots = program.forms.map(() => 0);
    const take = (form: number, slots: number): number => {
      const at = this.poolSlots[form];
      this.poolSlots[form] += alignSlots(slots);
      return at;
    };
    this.residentSlots = this.layers.map(({ heads }) =>
      program.forms.map((_, form) => take(form, batch * heads.length * this.heldSlots(heads, form))),
    );
    const { buffers = 1, leadLayers = 0, overlap } = program.transfer;
    const sets = Math.max(buffers, leadLayers + 1, overlap === 'stream' ? 2 : 1);
    const largest = program.forms.map(
      (_, form) =>
        batch *
        Math.max(
          ...this.layers.map(({ heads }) =>
            landingSlots(
              heads.map((head) => runsAt(head, 'fetched', form)),
              program.transfer,
            ),
          ),
        ),
    );
    const areas = Array.from({ length: sets }, () => largest.map((slots, form) => take(form, slots)));
    this.stagingSlots = this.layers.map((_, layer) => areas[layer % sets]);
    this.scratchSlot = take(0, batch * scratchSlots(this.layers, program.forms));
  }

  /** Where a layer's rebuilt rows lie side by side, among the raw ones, per (sequence, head). */
  rebuilt(layer: number): readonly (readonly Segment[])[] {
    const { program, batch } = this.workload;
    return rebuiltRows(this.layers[layer].heads, program.forms, batch, this.scratchSlot);
  }

  /** Slots that one head holds of a form, the same for all heads of a layer so that they stand at equal distances. */
  private heldSlots(heads: readonly HeadChoice[], form: number): number {
    const held = heads.map(
      ({ hbmTokens, estimatedRows }) => hbmTokens[form] + (form === 0 ? estimatedRows : 0),
    );
    return alignSlots(Math.max(0, ...held));
  }

  /** Slots that the layer's heads attend to where they lie in HBM, per (sequence, head). */
  resident(layer: number, form: number): readonly (readonly Segment[])[] {
    const { heads } = this.layers[layer];
    const held = this.heldSlots(heads, form);
    const first = this.residentSlots[layer][form];
    return this.perSequence((sequence) =>
      heads.map((head, at) => {
        const base = first + (sequence * heads.length + at) * held;
        const own = runsAt(head, 'hbm', form).map(({ slot, count, queries }) => ({
          slot: base + slot,
          count,
          queries,
        }));
        const estimated = form === 0 ? head.estimatedRows : 0;
        return joined([...own, { slot: base + head.hbmTokens[form], count: estimated, queries: -1 }]);
      }),
    );
  }

  /** Slot of the first token that the first sequence's first head holds. */
  readonly residentBase = (layer: number): number => this.residentSlots[layer][0];

  /** Slot of each row's newest token. */
  newestSlots(layer: number): readonly number[] {
    const { heads } = this.layers[layer];
    const held = this.heldSlots(heads, 0);
    return this.perSequence((sequence) =>
      heads.map((head, at) => {
        const base = this.residentSlots[layer][0] + (sequence * heads.length + at) * held;
        return base + Math.max(0, head.hbmTokens[0] - 1);
      }),
    );
  }

  /** Slots that the CPU attends to, in the layer's host region. */
  onHost(layer: number, form: number): readonly (readonly Segment[])[] {
    const { heads, copies } = this.layers[layer];
    const held = this.hostSlotsPerHead(layer, form);
    return this.perSequence((sequence) =>
      heads.map((head, at) => {
        const base = this.hostHead(sequence, at, heads.length, copies) * held;
        return joined(
          runsAt(head, 'cpu', form).map(({ slot, count, queries }) => ({
            slot: base + slot,
            count,
            queries,
          })),
        );
      }),
    );
  }

  /** Slots of one head in the layer's host region, whole rows. */
  hostSlotsPerHead(layer: number, form: number): number {
    const { rowTokens } = this.workload.program.transfer;
    const most = Math.max(0, ...this.layers[layer].heads.map(({ dramTokens }) => dramTokens[form]));
    return rowTokens === Infinity ? alignSlots(most) : Math.ceil(alignSlots(most) / rowTokens) * rowTokens;
  }

  hostSlots(layer: number, form: number): number {
    const { heads, copies } = this.layers[layer];
    return this.workload.batch * (heads.length / copies) * this.hostSlotsPerHead(layer, form);
  }

  /** Plans one copy of chosen tokens and remembers where they land. */
  fetch(layer: number, form: number, share: Share): FetchPlan {
    const { rowTokens, joinHeads } = this.workload.program.transfer;
    const key = `${layer} ${form}`;
    const firstSlot = this.stagingSlots[layer][form] + (this.staged.get(key) ?? 0);
    const plan =
      rowTokens === Infinity
        ? this.fetchWhole(layer, form, share, firstSlot)
        : joinHeads
          ? this.fetchJoined(layer, form, share, firstSlot, rowTokens)
          : this.fetchRows(layer, form, share, firstSlot, rowTokens);
    this.staged.set(key, (this.staged.get(key) ?? 0) + alignSlots(plan.slots));
    const landings = this.landings.get(key) ?? [];
    landings.push({ share, segments: plan.segments });
    this.landings.set(key, landings);
    return plan;
  }

  /** Whether copies of chosen tokens were planned. */
  fetches(layer: number, form: number): boolean {
    return this.landings.has(`${layer} ${form}`);
  }

  /** Slots where the tokens of a share landed, per (sequence, head). */
  landed(layer: number, form: number, [from, to]: Share): readonly (readonly Segment[])[] {
    const { heads } = this.layers[layer];
    const out: Segment[][] = Array.from({ length: this.workload.batch * heads.length }, () => []);
    for (const { share, segments } of this.landings.get(`${layer} ${form}`) ?? []) {
      if (share[0] < from - 1e-9 || share[1] > to + 1e-9) continue;
      segments.forEach((row, at) => {
        out[at].push(...row);
      });
    }
    return out.map(joined);
  }

  /** Position of an entry's KV head among all of the batch in host memory. */
  private hostHead(sequence: number, at: number, heads: number, copies: number): number {
    return (sequence * heads) / copies + Math.floor(at / copies);
  }

  private perSequence<T>(of: (sequence: number) => readonly T[]): readonly T[] {
    return Array.from({ length: this.workload.batch }, (_, sequence) => of(sequence)).flat();
  }

  private fetchWhole(layer: number, form: number, share: Share, firstSlot: number) {
    let slots = 0;
    const segments = this.perSequence(() =>
      this.layers[layer].heads.map((head) => {
        const count = sliceOf(tokensIn(runsAt(head, 'fetched', form)), share);
        const at = firstSlot + slots;
        slots += Math.ceil(count / WHOLE_ALIGNMENT) * WHOLE_ALIGNMENT;
        return [{ slot: at, count, queries: -1 }];
      }),
    );
    return {
      index: null,
      rows: this.workload.batch,
      slotsPerRow: slots / this.workload.batch,
      firstSlot,
      slots,
      sourceSlot: firstSlot - this.stagingSlots[layer][form],
      segments,
    };
  }

  /** Rows of one head each; keys and values of a block in two rows where they lie apart. */
  private fetchRows(layer: number, form: number, share: Share, firstSlot: number, rowTokens: number) {
    const halves = this.workload.program.transfer.joinKv ? 1 : 2;
    const blocksPerHead = this.hostSlotsPerHead(layer, form) / rowTokens;
    const { heads, copies } = this.layers[layer];
    const index: number[] = [];
    let slots = 0;
    const segments = this.perSequence((sequence) =>
      heads.map((head, at) => {
        const runs = runsAt(head, 'fetched', form);
        const blocks = shareOf(blocksOf(runs, rowTokens), share);
        const first = this.hostHead(sequence, at, heads.length, copies) * blocksPerHead * halves;
        const landing = firstSlot + slots;
        for (const block of blocks)
          for (let half = 0; half < halves; half++) index.push(first + half * blocksPerHead + block);
        slots += blocks.length * rowTokens;
        return landedSegments(runs, blocks, rowTokens, (n) => landing + n * rowTokens);
      }),
    );
    return {
      index: Uint32Array.from(index),
      rows: index.length,
      slotsPerRow: rowTokens / halves,
      firstSlot,
      slots,
      sourceSlot: 0,
      segments,
    };
  }

  /** Rows that hold a block of all heads: what any head asks for comes for all. */
  private fetchJoined(layer: number, form: number, share: Share, firstSlot: number, rowTokens: number) {
    const { heads } = this.layers[layer];
    const blocksPerHead = this.hostSlotsPerHead(layer, form) / rowTokens;
    const asked = new Set(heads.flatMap((head) => [...blocksOf(runsAt(head, 'fetched', form), rowTokens)]));
    const blocks = shareOf(
      [...asked].sort((a, b) => a - b),
      share,
    );
    const index: number[] = [];
    const rowSlots = rowTokens * heads.length;
    const segments = this.perSequence((sequence) => {
      const landing = firstSlot + index.length * rowSlots;
      for (const block of blocks) index.push(sequence * blocksPerHead + block);
      return heads.map((head, at) =>
        landedSegments(
          runsAt(head, 'fetched', form),
          blocks,
          rowTokens,
          (n) => landing + n * rowSlots + at * rowTokens,
        ),
      );
    });
    const rows = index.length;
    return {
      index: Uint32Array.from(index),
      rows,
      slotsPerRow: rowSlots,
      firstSlot,
      slots: rows * rowSlots,
      sourceSlot: 0,
      segments,
    };
  }
}
