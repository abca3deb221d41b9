/**
 * Pools of a workload: page sizes that its attention allows, and where each form's pool and each layer's region in host
 * memory begin.
 */
import type { Ref } from '../../kernels/calls.ts';
import type { Format } from '../../kernels/formats.ts';
import type { AttendOperation, Operation } from '../../sim/program/operation.ts';
import type { FetchPlaces } from './bind-transfer.ts';
import type { Binding } from './binding.ts';
import { LAID_ROWS } from './kernels/kernel-use.ts';
import { type Layout, plus } from './memory.ts';
import { type NuqForm, nuqBytes, nuqFormOf } from './nuq-form.ts';
import { formatOfForm, type Placement, poolBytes, slotBytes } from './placement.ts';
import { pageTokensFor, type Row } from './segments.ts';
import type { Workload } from './workload.ts';

const whole = [0, 1] as const;
const LARGEST_PAGE = 64;
/** Kernels address pages from this size on at no cost, so a second call is worth it. */
const SMALL_PAGE = 16;

/** Rows of an attention with the page in which they can be addressed. */
export interface Piece {
  readonly rows: readonly Row[];
  readonly pageTokens: number;
}

const pieceOf = (rows: Piece['rows'], limit: number): Piece => ({
  rows,
  pageTokens: pageTokensFor(rows, limit),
});

export class Pools {
  /** Tokens of a page, [layer][form]: raw pages differ by layer, a coded pool has one page size. */
  readonly pageTokens: number[][] = [];
  /** [form] pools in HBM. */
  pools: readonly Ref[] = [];
  /** [layer][form] regions in host memory. */
  regions: readonly (readonly Ref[])[] = [];
  private readonly workload: Workload;
  private readonly placement: Placement;
  /** Largest page of what copies bring: no more than a row of theirs. */
  private readonly limit: number;

  /** After the placement has planned its copies. */
  constructor(workload: Workload, placement: Placement, layout: Layout) {
    this.workload = workload;
    this.placement = placement;
    const { rowTokens } = workload.program.transfer;
    this.limit = rowTokens === Infinity ? LARGEST_PAGE : rowTokens;
    this.choosePages(workload.program.operations);
    this.placePools(layout);
  }

  /**
   * Slots of one form that an attention reads, per (sequence, head): all at once, or what lies ready apart from what was
   * copied where together they could only be addressed in small pages. Rebuilt rows are read with the raw ones, and what
   * the step lays side by side is read there.
   */
  piecesOf({ layer, where, covers }: AttendOperation, form: number): readonly Piece[] {
    if (where === 'cpu') return [pieceOf(this.placement.onHost(layer, form), LARGEST_PAGE)];
    const { resident = true, far = whole } = covers ?? {};
    const { forms } = this.workload.program;
    if (forms[form].isRebuilt === true) return [];
    if (form === 0 && this.placement.laysOut(layer))
      return [pieceOf(this.placement.laidRows(layer), LARGEST_PAGE)];
    if (form === 0 && resident && forms.some(({ isRebuilt }) => isRebuilt === true)) {
      const rebuilt = this.placement.rebuiltRows(layer);
      const all = this.placement.resident(layer, 0).map((row, at) => [...row, ...rebuilt[at]]);
      return [pieceOf(all, LARGEST_PAGE)];
    }
    const limit = this.placement.fetches(layer, form) ? this.limit : LARGEST_PAGE;
    const near = resident ? this.placement.resident(layer, form) : [];
    const landed = far[1] > far[0] ? this.placement.landed(layer, form, far) : [];
    if (near.length === 0 || landed.length === 0) return [pieceOf(near.length === 0 ? landed : near, limit)];
    const together = pieceOf(
      near.map((row, at) => [...row, ...landed[at]]),
      limit,
    );
    const apart = [pieceOf(near, limit), pieceOf(landed, limit)];
    const smallest = Math.min(...apart.map(({ pageTokens }) => pageTokens));
    return together.pageTokens < SMALL_PAGE && smallest >= SMALL_PAGE ? apart : [together];
  }

  /** Pages of raw rows as large as a layer's attention allows; coded pools have one page size. */
  private choosePages(operations: readonly Operation[]): void {
    const { forms } = this.workload.program;
    this.placement.layers.forEach((_, layer) => {
      this.pageTokens[layer] = forms.map(() => LARGEST_PAGE);
      for (const operation of operations) {
        if (operation.kind !== 'attend' || operation.layer !== layer) continue;
        forms.forEach((_form, form) => {
          for (const { pageTokens } of this.piecesOf(operation, form))
            this.pageTokens[layer][form] = Math.min(this.pageTokens[layer][form], pageTokens);
        });
      }
    });
    forms.forEach((_, form) => {
      if (form === 0) return;
      const least = Math.min(...this.pageTokens.map((sizes) => sizes[form]));
      for (const sizes of this.pageTokens) sizes[form] = least;
    });
  }

  /** Bytes of one slot: pages with their scales, or the codec's own bytes where no kernel has the form. */
  slotBytes(layer: number, form: number): number {
    const { forms } = this.workload.program;
    const format = formatOfForm(forms[form].name);
    const { headDim } = this.workload.dimensions;
    if (format === null) return forms[form].kBytesPerToken + forms[form].vBytesPerToken;
    return slotBytes(format, headDim, this.pageTokens[layer][form]);
  }

  /** How kernels read a form: pages of a format, of non-uniform codes where these lie whole, or not at all. */
  readAs(
    form: number,
    where: AttendOperation['where'],
  ): { readonly format: Format | null; readonly nuq: NuqForm | null } {
    const { program, dimensions } = this.workload;
    const stored = program.forms[form];
    const nuq = nuqFormOf(stored, dimensions.headDim, this.pageTokens[0][form]);
    return { format: formatOfForm(stored.name), nuq: where === 'cpu' ? null : nuq };
  }

  /** What copies of a layer's rows go from and to. */
  placesOf(layer: number, form: number): FetchPlaces {
    const { regions, pools } = this;
    return { region: regions[layer][form], pool: pools[form], slotBytes: this.slotBytes(layer, form) };
  }

  /** Where a layer's rows are laid side by side. */
  laidPlace(layer: number): Ref {
    return plus(this.pools[0], this.placement.laidSlot * this.slotBytes(layer, 0));
  }

  /** The same for the call that does it. */
  leaveLaidRows(binding: Binding, layer: number): void {
    let tokens = 0;
    for (const row of this.placement.laidRows(layer)) for (const { spans } of row) tokens += spans.tokens;
    binding.leave(LAID_ROWS, this.laidPlace(layer), tokens * this.slotBytes(layer, 0));
  }

  private placePools(layout: Layout): void {
    const { program, dimensions } = this.workload;
    this.pools = program.forms.map(({ name }, form) => {
      const format = formatOfForm(name);
      const slots = this.placement.poolSlots[form];
      const { nuq } = this.readAs(form, 'gpu');
      if (nuq !== null) return layout.place('codes', nuqBytes(nuq, slots));
      const bytes =
        format === null
          ? slots * this.slotBytes(0, form)
          : poolBytes(format, dimensions.headDim, this.pageTokens[0][form], slots);
      return layout.place('kv', bytes);
    });
    this.regions = this.placement.layers.map((_, layer) =>
      program.forms.map((_form, form) =>
        layout.place('host', this.placement.hostSlots(layer, form) * this.slotBytes(layer, form)),
      ),
    );
  }
}
