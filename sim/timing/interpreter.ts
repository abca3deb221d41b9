/**
 * Plays a program on the engine: operations go in order down their streams and wait for what they depend on; each
 * passes its fixed time, then flows over the shared resources, where copies slow kernels and kernels slow copies.
 * Copies between tiers go through one FIFO engine a direction. Everything that happens is recorded by operation.
 */
import { createColumns } from '../engine/columns.ts';
import { createRecorder, type Recorder } from '../engine/recorder.ts';
import { createSimulator, type Simulator } from '../engine/simulator.ts';
import { type CopyEngine, createCopyEngine } from '../fabric/copy-engine.ts';
import { createFabric, type Fabric } from '../fabric/flow.ts';
import { createStreams, type Streams } from '../fabric/stream.ts';
import { movedBytes } from '../program/bytes.ts';
import type { Operation, OperationKind, Program, StreamName } from '../program/operation.ts';
import { Launches } from './launches.ts';
import type { OperationCost, ResourceName } from './operation-cost.ts';
import type { SharedResources } from './shared-resources.ts';
import { withTakenAlong } from './taken-along.ts';
import type { Timeline } from './timeline.ts';

export const STREAMS: readonly StreamName[] = ['compute', 'h2d', 'd2h', 'cpu', 'nvme'];
export const KINDS: readonly OperationKind[] = [
  'dense',
  'append',
  'score',
  'select',
  'fetch',
  'decode',
  'attend',
  'merge',
  'encode',
  'spill',
  'wait',
];
const COMPUTE = 0;
const CPU = STREAMS.indexOf('cpu');
const FIXED_LABEL = 'launch';
const COPY_STREAMS: readonly StreamName[] = ['h2d', 'd2h'];

/** Operations as rows; `cause` = the operation whose end let this one start (-1 = none). */
const operationColumns = {
  submittedNs: 'f64',
  startNs: 'f64',
  endNs: 'f64',
  fixedNs: 'f64',
  bytes: 'f64',
  cause: 'i32',
  bound: 'i32',
  lo: 'f64',
  hi: 'f64',
  isExtrapolated: 'u8',
  layer: 'i16',
  step: 'i32',
  kind: 'u8',
  stream: 'u8',
} as const;

export interface CriticalPath {
  /** Time by what it was waited for, ns. Fixed parts count as "launch". */
  readonly waitNs: ReadonlyMap<string, number>;
  /** Length of the path if every operation took its shortest or longest time: errors that all point one way. */
  readonly loNs: number;
  readonly hiNs: number;
  /** Time on the path of operations that lie outside what their law was fitted on. */
  readonly extrapolatedNs: number;
  /** Time on the path of operations of the prompt: what of it went on after its end on the compute stream. */
  readonly promptNs: number;
}

export class Interpreter {
  readonly simulator: Simulator;
  readonly fabric: Fabric;
  readonly rows = createColumns(operationColumns, 1024);
  /** Labels that the column `bound` points to. */
  readonly bounds: string[] = [];
  private readonly recorder: Recorder;
  private readonly streams: Streams;
  private readonly engines: ReadonlyMap<StreamName, CopyEngine>;
  private readonly doneKind: number;
  private readonly resourceIndex: ReadonlyMap<ResourceName, number>;
  private readonly price: (operation: Operation) => OperationCost;
  private readonly costs = new Map<number, OperationCost>();
  /** Last compute operation of each submitted step. */
  private readonly lastOfStep = new Map<number, number>();
  /** Engines of copies that have not started yet. */
  private readonly engineCopies = new Map<number, CopyEngine>();
  /** Dependencies of operations that have not started yet. */
  private readonly waitsFor = new Map<number, readonly number[]>();
  private readonly lastOnStream = STREAMS.map(() => -1);
  private awaited = -1;
  private readonly launches: Launches;

  constructor(machine: SharedResources, price: (operation: Operation) => OperationCost) {
    this.price = price;
    this.recorder = createRecorder();
    this.simulator = createSimulator({ recorder: this.recorder });
    this.fabric = createFabric(this.simulator, machine.resources);
    this.resourceIndex = new Map(machine.resources.map(({ name }, at) => [name, at]));
    const readyKind = this.simulator.addHandler('operation ready', (_, id) => this.start(id));
    this.doneKind = this.simulator.addHandler('operation done', (id) => this.end(id));
    this.streams = createStreams(this.simulator, STREAMS.length, readyKind);
    this.launches = new Launches(STREAMS.length);
    this.engines = new Map(
      COPY_STREAMS.map((stream) => [stream, createCopyEngine(this.simulator, this.fabric, stream)]),
    );
  }

  /** Queues a program as step `step` (0, 1, …; the prompt is step -1). Ids go on from the last one. */
  submit(program: Program, step: number): void {
    for (const operation of withTakenAlong(program.operations, this.rows.length))
      this.submitOperation(operation, step);
    this.lastOfStep.set(step, this.lastOnStream[COMPUTE]);
  }

  /** Runs until the compute stream has ended step `step`; returns the time, ns. */
  runThrough(step: number): number {
    this.awaited = this.lastOf(step);
    if (this.awaited >= 0 && !this.hasEnded(this.awaited)) this.simulator.run();
    return this.awaited < 0 ? this.simulator.timeNs : this.rows.data.endNs[this.awaited];
  }

  /** Runs until nothing is left to do. */
  finish(): void {
    this.awaited = -1;
    this.simulator.run();
  }

  /** SHA-256 over the stream of events so far. */
  digest(): string {
    return this.recorder.digest();
  }

  busyNs(name: ResourceName): number {
    const at = this.resourceIndex.get(name);
    return at === undefined ? 0 : this.fabric.busyNs(at);
  }

  /**
   * The critical path that ends with step `to`, back to the end of step `from` (or to the start when there is no such
   * step): what it waits for, and how far the cost model's errors could move it.
   */
  criticalPath(from: number, to: number): CriticalPath {
    const { startNs, endNs, fixedNs, cause, bound, lo, hi, isExtrapolated, step } = this.rows.data;
    const waitNs = new Map<string, number>();
    const path = { waitNs, loNs: 0, hiNs: 0, extrapolatedNs: 0, promptNs: 0 };
    const add = (label: string, ns: number) => waitNs.set(label, (waitNs.get(label) ?? 0) + ns);
    const before = this.lastOf(from);
    const until = before < 0 ? 0 : endNs[before];
    for (let id = this.lastOf(to); id >= 0 && endNs[id] > until; id = cause[id]) {
      const tookNs = endNs[id] - Math.max(startNs[id], until);
      const fixed = Math.min(fixedNs[id], tookNs);
      add(FIXED_LABEL, fixed);
      add(this.bounds[bound[id]], tookNs - fixed);
      path.loNs += tookNs * lo[id];
      path.hiNs += tookNs * hi[id];
      if (isExtrapolated[id] !== 0) path.extrapolatedNs += tookNs;
      if (step[id] < 0) path.promptNs += tookNs;
    }
    return path;
  }

  timeline(): Timeline {
    const { startNs, endNs, kind, stream, layer, step, bytes } = this.rows.view();
    return { kinds: KINDS, streams: STREAMS, startNs, endNs, kind, stream, layer, step, bytes };
  }

  private lastOf(step: number): number {
    return this.lastOfStep.get(step) ?? -1;
  }

  private hasEnded(id: number): boolean {
    return this.rows.data.endNs[id] > 0;
  }

  private submitOperation(operation: Operation, step: number): void {
    const cost = this.price(operation);
    const stream = STREAMS.indexOf(operation.stream);
    const row = this.rows.add();
    const { data } = this.rows;
    data.kind[row] = KINDS.indexOf(operation.kind);
    data.stream[row] = stream;
    data.layer[row] = operation.layer;
    data.step[row] = step;
    data.submittedNs[row] = this.simulator.timeNs;
    data.bytes[row] = movedBytes(operation);
    data.fixedNs[row] = cost.fixedNs;
    data.bound[row] = this.labelId(cost.boundBy);
    data.lo[row] = cost.intervalRatio[0];
    data.hi[row] = cost.intervalRatio[1];
    data.isExtrapolated[row] = cost.domain === 'extrapolated' ? 1 : 0;
    data.cause[row] = this.lastOnStream[stream];
    this.costs.set(row, cost);
    this.waitsFor.set(row, operation.after);
    const engine = this.engineOf(operation);
    if (engine !== undefined) this.engineCopies.set(row, engine);
    this.lastOnStream[stream] = row;
    const seen = this.launches.add(row, step, cost, operation, data.stream);
    this.streams.submit(
      stream,
      seen === null ? operation.after : [...operation.after, ...seen],
      operation.layer,
    );
  }

  /** Copies between HBM and host memory share the engine of their direction, whatever stream they are on. */
  private engineOf(operation: Operation): CopyEngine | undefined {
    const isCopy = (operation.kind === 'fetch' || operation.kind === 'spill') && operation.mode !== 'uva';
    if (!isCopy) return undefined;
    const { from, to, stream } = operation;
    if (from === 'dram' && to === 'hbm') return this.engines.get('h2d');
    if (from === 'hbm' && to === 'dram') return this.engines.get('d2h');
    return this.engines.get(stream);
  }

  private labelId(label: string): number {
    const at = this.bounds.indexOf(label);
    return at >= 0 ? at : this.bounds.push(label) - 1;
  }

  private start(id: number): void {
    const cost = this.costs.get(id);
    if (cost === undefined) return;
    this.costs.delete(id);
    const { data } = this.rows;
    data.startNs[id] = this.simulator.timeNs;
    for (const other of this.waitsFor.get(id) ?? []) {
      const cause = data.cause[id];
      if (cause < 0 || data.endNs[other] > data.endNs[cause]) data.cause[id] = other;
    }
    if (data.stream[id] === CPU) data.fixedNs[id] = this.leftOf(id, cost);
    else if (cost.hostNs !== undefined)
      data.fixedNs[id] += Math.max(0, this.launchedNs(id) - data.startNs[id]);
    if (cost.amount === 0) this.simulator.schedule(data.startNs[id] + data.fixedNs[id], this.doneKind, id);
    else this.flow(id, cost);
    this.waitsFor.delete(id);
    this.engineCopies.delete(id);
  }

  /** When the CPU, which begins a step once the one before has ended, has launched an operation. */
  private launchedNs(id: number): number {
    const { step, endNs } = this.rows.data;
    const before = this.lastOf(step[id] - 1);
    return this.launches.launchedNs(id, before < 0 ? 0 : endNs[before], endNs);
  }

  /**
   * What is left of a fixed time once it is its stream's turn: that of a copy began when it was launched and all else that
   * it waits for had ended, so that copies enqueued one behind the other follow without a pause. So did that of work of
   * host threads with what the GPU did for it: threads that have just worked need not be woken nor told.
   */
  private leftOf(id: number, { fixedNs, toldNs = fixedNs, hostNs }: OperationCost): number {
    const { startNs, endNs, submittedNs, stream } = this.rows.data;
    let readyNs = hostNs === undefined ? submittedNs[id] : this.launchedNs(id);
    for (const other of this.waitsFor.get(id) ?? [])
      if (stream[id] !== CPU || stream[other] !== CPU) readyNs = Math.max(readyNs, endNs[other]);
    return Math.max(0, fixedNs - toldNs, fixedNs - (startNs[id] - readyNs));
  }

  private flow(id: number, cost: OperationCost): void {
    let heaviest = 0;
    const demands = cost.demands.map(({ resource, bytesPerAmount }) => {
      heaviest = Math.max(heaviest, bytesPerAmount);
      return { resource: this.fabric.resourceIndex(resource), bytesPerAmount };
    });
    // Competing flows get equal bytes per ns of what they use most.
    const flowClass = this.fabric.holdClass({
      capPerNs: cost.soloRatePerNs,
      weight: cost.weight ?? (heaviest > 0 ? 1 / heaviest : 1),
      demands,
    });
    const engine = this.engineCopies.get(id);
    if (engine) engine.enter(id, flowClass, cost.amount, this.leftOf(id, cost), this.doneKind, id);
    else this.fabric.start(flowClass, cost.amount, this.rows.data.fixedNs[id], this.doneKind, id);
    this.fabric.releaseClass(flowClass);
  }

  private end(id: number): void {
    this.rows.data.endNs[id] = this.simulator.timeNs;
    this.streams.complete(id);
    if (id === this.awaited) this.simulator.stop();
  }
}
