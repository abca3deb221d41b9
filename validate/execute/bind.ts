/**
 * Binds a workload: each operation of the program becomes kernel calls over real places, on the operation's stream, after
 * the calls of what it waits for. Bytes are counted from the calls' own arguments, never from the operation's numbers.
 */
import { COPY_MODES, ROW_MODES } from '../../kernels/calls.ts';
import type {
  AttendOperation,
  FetchOperation,
  Operation,
  SpillOperation,
} from '../../sim/program/operation.ts';
import {
  type Attended,
  type AttentionGroup,
  asksLogits,
  bindAttend,
  bindMerge,
  type FormRows,
  partialBytes,
  partialTarget,
  partsOf,
} from './bind-attention.ts';
import { bindAppend, bindCodec, bindDense } from './bind-dense.ts';
import { bindScore, bindSelect } from './bind-index.ts';
import { bindCopy, bindFetch, spreadRows } from './bind-transfer.ts';
import { Binding } from './binding.ts';
import { PAGE_TABLE } from './kernels/kernel-use.ts';
import { type FetchPlan, Placement } from './placement.ts';
import { Pools } from './pools.ts';
import type { Workload } from './workload.ts';

/** A bound workload: calls over symbolic places, and what is needed to check an output. */
export interface BoundStep {
  readonly workload: Workload;
  readonly binding: Binding;
  readonly placement: Placement;
  readonly pools: Pools;
  /** Per executed layer. */
  readonly groups: readonly AttentionGroup[];
}

class StepBinder {
  readonly binding: Binding;
  readonly groups: AttentionGroup[] = [];
  private readonly workload: Workload;
  private readonly placement: Placement;
  private readonly plans = new Map<number, FetchPlan>();
  private readonly pools: Pools;
  /** Parts of the layer's attention that were bound so far. */
  private readonly partsBound = new Map<number, number>();

  constructor(workload: Workload) {
    this.workload = workload;
    this.binding = new Binding(workload.program.operations);
    this.placement = new Placement(workload);
    this.planFetches(workload.program.operations);
    this.pools = new Pools(workload, this.placement, this.binding.layout);
  }

  bind(): BoundStep {
    const { operations } = this.workload.program;
    this.placement.layers.forEach((_, layer) => {
      this.groups.push(this.groupOf(layer, operations));
    });
    operations.forEach((operation, at) => {
      this.binding.begin(at);
      this.bindOne(operation, at);
      this.binding.end();
    });
    const { workload, binding, placement, pools, groups } = this;
    return { workload, binding, placement, pools, groups };
  }

  private planFetches(operations: readonly Operation[]): void {
    operations.forEach((operation, at) => {
      if (operation.kind !== 'fetch' || operation.chosen === undefined) return;
      const { form, share } = operation.chosen;
      this.plans.set(at, this.placement.fetch(operation.layer, form, share));
    });
  }

  private groupOf(layer: number, operations: readonly Operation[]): AttentionGroup {
    const { program, dimensions, batch } = this.workload;
    const { layout } = this.binding;
    const { headDim } = dimensions;
    const { group, heads } = this.placement.layers[layer];
    const rows = heads.length * batch;
    const attended: Attended[] = [];
    operations.forEach((operation, at) => {
      if (operation.kind !== 'attend' || operation.layer !== layer) return;
      const forms = program.forms.flatMap((_, form) =>
        this.pools.piecesOf(operation, form).map(
          ({ rows: segments }): FormRows => ({
            form,
            ...this.pools.readAs(form, operation.where),
            pageTokens: this.pools.pageTokens[layer][form],
            pool: operation.where === 'cpu' ? this.pools.regions[layer][form] : this.pools.pools[form],
            slotBytes: this.pools.slotBytes(layer, form),
            rows: segments,
          }),
        ),
      );
      attended.push({ at, operation, forms });
    });
    const parts = partsOf(attended);
    const onHost = attended.some(({ operation }) => operation.where === 'cpu');
    const bytes = rows * group * partialBytes(headDim);
    return {
      headDim,
      group,
      rows,
      attended,
      queries: layout.place('kv', 2 * rows * group * headDim),
      hostQueries: onHost ? layout.place('host', 2 * rows * group * headDim) : null,
      hostPartials: onHost ? layout.place('hostOutputs', bytes) : null,
      partials: layout.place('outputs', parts * bytes),
      out: layout.place('outputs', 4 * rows * group * headDim),
      leavesLogits: asksLogits(operations, layer),
      // Outputs of the CPU arrive in parts even where they are the only one.
      parts: onHost ? Math.max(2, parts) : parts,
    };
  }

  private bindOne(operation: Operation, at: number): void {
    const { binding, workload } = this;
    switch (operation.kind) {
      case 'score':
        // What lays a layer's rows side by side does so where attention reads them.
        if (operation.laysOut === true) this.pools.leaveLaidRows(binding, operation.layer);
        bindScore(binding, workload, operation, this.choosesPerQuery(at));
        break;
      case 'select':
        bindSelect(binding, operation);
        break;
      case 'fetch':
        this.bindFetch(operation, at);
        break;
      case 'spill':
        this.bindSpill(operation);
        break;
      case 'attend':
        this.bindAttend(operation, at);
        break;
      case 'merge':
        bindMerge(binding, this.groups[operation.layer]);
        break;
      case 'append':
        bindAppend(binding, workload, operation, {
          pool: this.pools.pools[0],
          slots: this.placement.newestSlots(operation.layer),
          pageTokens: this.pools.pageTokens[operation.layer][0],
        });
        break;
      case 'encode':
      case 'decode':
        bindCodec(binding, workload, operation);
        break;
      case 'dense':
        bindDense(binding, operation);
        break;
      case 'wait':
        binding.wait();
        break;
      default: {
        const never: never = operation;
        throw new Error(`operation ${String(never)}`);
      }
    }
  }

  /** Whether the selection that follows a scorer has one row a query head. */
  private choosesPerQuery(at: number): boolean {
    const { operations } = this.workload.program;
    const { heads, kvHeads } = this.workload.dimensions;
    const next = operations.slice(at + 1).find(({ kind }) => kind === 'select' || kind === 'attend');
    return next?.kind === 'select' && heads > kvHeads && next.rows >= heads * this.workload.batch;
  }

  private bindFetch(operation: FetchOperation, at: number): void {
    const { binding } = this;
    const { layer } = operation;
    const plan = this.plans.get(at);
    if (plan !== undefined) {
      bindFetch(binding, operation, plan, this.pools.placesOf(layer, operation.chosen?.form ?? 0));
      return;
    }
    if (operation.after.some((id) => this.isCpuAttention(id))) {
      this.bindOutputs(layer);
      return;
    }
    const places = layer >= 0 ? this.pools.placesOf(layer, 0) : null;
    const slots = layer >= 0 ? this.placement.hostSlots(layer, 0) : 0;
    const rowBytes = Math.round(operation.rowBytes);
    const regionRows = places === null ? 0 : Math.floor((slots * places.slotBytes) / rowBytes);
    if (places === null || operation.regionBytes === undefined || regionRows < 1) {
      // Tables that host threads made of what was chosen go as they left them.
      bindCopy(binding, operation, binding.left(PAGE_TABLE, operation.rows * rowBytes));
      return;
    }
    const slotsPerRow = rowBytes / places.slotBytes;
    const index = spreadRows(operation.rows, regionRows);
    const target = binding.layout.place('kv', operation.rows * rowBytes);
    const refill = {
      index,
      rows: operation.rows,
      slotsPerRow,
      firstSlot: 0,
      slots: operation.rows * slotsPerRow,
      sourceSlot: 0,
    };
    bindFetch(binding, operation, refill, { ...places, pool: target });
  }

  private isCpuAttention(id: number): boolean {
    const operation = this.workload.program.operations[id];
    return operation?.kind === 'attend' && operation.where === 'cpu';
  }

  /** Partial outputs of the CPU, between the other parts of each query head. */
  private bindOutputs(layer: number): void {
    const group = this.groups[layer];
    const bytes = partialBytes(group.headDim);
    const count = group.rows * group.group;
    if (group.hostPartials === null) return;
    this.binding.add('copy', {
      refs: { source: group.hostPartials, target: partialTarget(group, 0) },
      ints: {
        count,
        bytes,
        sourceStride: bytes,
        targetStride: bytes * group.parts,
        mode: COPY_MODES.indexOf('2d'),
      },
    });
    this.binding.touch('h2d', count * bytes);
  }

  private bindSpill(operation: SpillOperation): void {
    const group = this.groups[operation.layer];
    const { heads, headDim, elementBytes } = this.workload.dimensions;
    const isQueries =
      group?.hostQueries !== null &&
      group !== undefined &&
      operation.rowBytes === heads * headDim * elementBytes;
    if (isQueries && group.hostQueries !== null)
      bindCopy(this.binding, operation, group.queries, group.hostQueries);
    else if (operation.mode === 'cpu-gather') this.bindScatter(operation);
    else bindCopy(this.binding, operation);
  }

  /** Rows leave in one copy to a pinned buffer, from where the CPU distributes them. */
  private bindScatter({ rows, rowBytes }: SpillOperation): void {
    const { layout } = this.binding;
    const bytes = Math.max(4, 4 * Math.round(rowBytes / 4));
    this.binding.add('scatter', {
      refs: {
        source: layout.place('kv', rows * bytes),
        index: layout.numbers('hostTables', rows, spreadRows(rows, rows)),
        target: layout.place('host', rows * bytes),
        staging: layout.shared('landing', rows * bytes),
      },
      ints: {
        rows,
        rowBytes: bytes,
        sourceStride: bytes,
        targetStride: bytes,
        mode: ROW_MODES.indexOf('staged'),
        units: 0,
      },
    });
    this.binding.touch('d2h', rows * bytes);
  }

  private bindAttend(operation: AttendOperation, at: number): void {
    const group = this.groups[operation.layer];
    const attended = group.attended.find((one) => one.at === at);
    if (attended === undefined) return;
    const isCpu = operation.where === 'cpu';
    // Part 0 is the CPU's where it attends; then the GPU's follow.
    const onHost = group.hostPartials !== null;
    const bound = this.partsBound.get(operation.layer) ?? (onHost ? 1 : 0);
    const names = this.workload.program.forms.map(({ name }) => name);
    const taken = bindAttend(this.binding, group, attended, isCpu ? 0 : bound, names);
    if (!isCpu) this.partsBound.set(operation.layer, bound + taken);
    const merges = this.workload.program.operations.some(
      ({ kind, layer }) => kind === 'merge' && layer === operation.layer,
    );
    const isLast = group.attended.at(-1) === attended;
    if (isLast && !merges) bindMerge(this.binding, group);
  }
}

/** Calls of a workload over symbolic places. */
export const bindStep = (workload: Workload): BoundStep => new StepBinder(workload).bind();
