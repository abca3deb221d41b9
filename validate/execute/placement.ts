/**
 * Where the KV of a workload lies: per stored form one pool in HBM (what each layer holds, packed, and staging areas that
 * layers share in turn) and one region a layer in host memory, in rows as the policy transfers them. Everything in
 * slots (tokens of one KV head), so that page sizes can follow from what is attended.
 */
import { FORMATS, type Format, layoutOf, pageStrideOf } from '../../kernels/formats.ts';
import type { HeadChoice } from '../../sim/decode/head-choice.ts';
import type { Share } from '../../sim/program/operation.ts';
import { byHead, type CopyPlan, hostHead, planCopy } from './copy-plan.ts';
import { landingSlots, runsAt } from './landing.ts';
import type { FillTable } from './memory.ts';
import { once } from './once.ts';
import { laidOf, rebuiltOf, type ScratchOf, scratchRows, scratchSlots } from './scratch.ts';
import { alignSlots, joined, type Laid, type Row, rowAt, type Spans, spansOf } from './segments.ts';
import { headsOf, type LayerHeads, type Workload } from './workload.ts';

/** A planned copy in its place. */
export interface FetchPlan extends Pick<CopyPlan, 'rows' | 'slotsPerRow' | 'slots'> {
  /** Positions of the rows in the layer's region; null = everything in one piece a sequence. */
  readonly index: FillTable | null;
  /** First slot of the landing, in the form's pool; of the source, where everything is in one piece. */
  readonly firstSlot: number;
  readonly sourceSlot: number;
}

/** Rows that are put side by side before attention, in a place that layers share. */
interface Scratch {
  readonly of: ScratchOf;
  readonly firstSlot: number;
  readonly rows: Map<LayerHeads, readonly Row[]>;
}

interface Landing {
  readonly share: Share;
  readonly firstSlot: number;
  readonly plan: CopyPlan;
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

/** The rows of every layer; layers whose choice is the same one are the same object. */
const layersOf = (workload: Workload): readonly LayerHeads[] => {
  const known = new Map<string, LayerHeads>();
  return workload.program.layers.map(({ replayedLayer, denseTokens }, layer) =>
    once(known, `${replayedLayer} ${denseTokens}`, () => headsOf(workload, layer)),
  );
};

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
  private readonly rebuilt: Scratch;
  private readonly laid: Scratch;
  /** Layers whose rows are laid side by side before attention. */
  private readonly laidLayers: ReadonlySet<number>;
  /** What layers of the same choice share, by what it depends on besides. */
  private readonly spans = new Map<LayerHeads, Map<string, readonly Spans[]>>();
  private readonly copies = new Map<LayerHeads, Map<string, CopyPlan>>();

  constructor(workload: Workload) {
    this.workload = workload;
    const { program, batch } = workload;
    this.layers = layersOf(workload);
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
    const choices = [...new Set(this.layers)];
    const largest = program.forms.map(
      (_, form) =>
        batch *
        Math.max(
          ...choices.map(({ heads }) =>
            landingSlots(
              byHead(heads, (head) => runsAt(head, 'fetched', form)),
              program.transfer,
            ),
          ),
        ),
    );
    const areas = Array.from({ length: sets }, () => largest.map((slots, form) => take(form, slots)));
    this.stagingSlots = this.layers.map((_, layer) => areas[layer % sets]);
    this.laidLayers = new Set(
      program.operations.filter((one) => one.kind === 'score' && one.laysOut).map(({ layer }) => layer),
    );
    const scratchOf = (of: ScratchOf, among: readonly LayerHeads[]): Scratch => ({
      of,
      firstSlot: take(0, batch * scratchSlots(among, of)),
      rows: new Map(),
    });
    this.rebuilt = scratchOf(rebuiltOf(program.forms), choices);
    this.laid = scratchOf(laidOf, [...new Set(this.layers.filter((_, layer) => this.laysOut(layer)))]);
  }

  private inScratch({ of, firstSlot, rows }: Scratch, layer: number): readonly Row[] {
    const choice = this.layers[layer];
    return once(rows, choice, () => scratchRows(choice.heads, of, this.workload.batch, firstSlot));
  }

  /** Where a layer's rebuilt rows lie side by side, among the raw ones, per (sequence, head). */
  readonly rebuiltRows = (layer: number): readonly Row[] => this.inScratch(this.rebuilt, layer);

  /** The same of all that a layer attends to, where it is laid out for that; and from which slot of the raw pool on. */
  readonly laidRows = (layer: number): readonly Row[] => this.inScratch(this.laid, layer);
  laysOut(layer: number): boolean {
    return this.laidLayers.has(layer);
  }
  get laidSlot(): number {
    return this.laid.firstSlot;
  }

  /** Slots that one head holds of a form, the same for all heads of a layer so that they stand at equal distances. */
  private heldSlots(heads: readonly HeadChoice[], form: number): number {
    const held = heads.map(
      ({ hbmTokens, estimatedRows }) => hbmTokens[form] + (form === 0 ? estimatedRows : 0),
    );
    return alignSlots(Math.max(0, ...held));
  }

  /** What a head reads at a place, from the first slot that it has there on; one list a head. */
  private spansAt(layer: number, place: 'hbm' | 'cpu', form: number): readonly Spans[] {
    const choice = this.layers[layer];
    const known = once(this.spans, choice, () => new Map<string, readonly Spans[]>());
    return once(known, `${place} ${form}`, () =>
      byHead(choice.heads, (head) => {
        const estimated = place === 'hbm' && form === 0 ? head.estimatedRows : 0;
        const standing = { slot: head.hbmTokens[form], count: estimated, queries: -1 };
        return spansOf(joined([...runsAt(head, place, form), standing]));
      }),
    );
  }

  /** Slots that the layer's heads attend to where they lie in HBM, per (sequence, head). */
  resident(layer: number, form: number): readonly Row[] {
    const { heads } = this.layers[layer];
    const held = this.heldSlots(heads, form);
    const first = this.residentSlots[layer][form];
    const spans = this.spansAt(layer, 'hbm', form);
    return this.perSequence((sequence) =>
      spans.map((one, at) => rowAt(first + (sequence * heads.length + at) * held, one)),
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
  onHost(layer: number, form: number): readonly Row[] {
    const choice = this.layers[layer];
    const held = this.hostSlotsPerHead(layer, form);
    const spans = this.spansAt(layer, 'cpu', form);
    return this.perSequence((sequence) =>
      spans.map((one, at) => rowAt(hostHead(choice, sequence, at) * held, one)),
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
    const key = `${layer} ${form}`;
    const staged = this.staged.get(key) ?? 0;
    const firstSlot = this.stagingSlots[layer][form] + staged;
    const plan = this.planOf(layer, form, share);
    const { index, rows, slotsPerRow, slots } = plan;
    this.staged.set(key, staged + alignSlots(slots));
    once(this.landings, key, () => []).push({ share, firstSlot, plan });
    // Rows are numbered in the region; what comes in one piece comes in the order in which it lands.
    return index === null
      ? { index, rows, slotsPerRow, slots, firstSlot, sourceSlot: staged }
      : { index: (target) => target.set(index), rows, slotsPerRow, slots, firstSlot, sourceSlot: 0 };
  }

  private planOf(layer: number, form: number, share: Share): CopyPlan {
    const { program, batch } = this.workload;
    const { transfer } = program;
    const choice = this.layers[layer];
    const known = once(this.copies, choice, () => new Map<string, CopyPlan>());
    return once(known, `${form} ${share}`, () => {
      const blocksPerHead = this.hostSlotsPerHead(layer, form) / transfer.rowTokens;
      return planCopy({ layer: choice, batch, form, share, transfer, blocksPerHead });
    });
  }

  /** Whether copies of chosen tokens were planned. */
  fetches(layer: number, form: number): boolean {
    return this.landings.has(`${layer} ${form}`);
  }

  /** Slots where the tokens of a share landed, per (sequence, head). */
  landed(layer: number, form: number, [from, to]: Share): readonly Row[] {
    const { heads } = this.layers[layer];
    const out: Laid[][] = Array.from({ length: this.workload.batch * heads.length }, () => []);
    for (const { share, firstSlot, plan } of this.landings.get(`${layer} ${form}`) ?? []) {
      if (share[0] < from - 1e-9 || share[1] > to + 1e-9) continue;
      plan.landed.forEach((row, at) => {
        for (const { base, spans } of row) out[at].push({ base: firstSlot + base, spans });
      });
    }
    return out;
  }

  private perSequence<T>(of: (sequence: number) => readonly T[]): readonly T[] {
    return Array.from({ length: this.workload.batch }, (_, sequence) => of(sequence)).flat();
  }
}
