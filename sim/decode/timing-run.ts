/**
 * Times one policy: lowers the demands of its replay step by step, plays them on the engine, and reads off step times,
 * traffic, what binds and the timeline.
 */
import { summarize } from '../engine/stats.ts';
import { bytesOf } from '../program/bytes.ts';
import type { Operation, Program } from '../program/operation.ts';
import { Interpreter, KINDS } from '../timing/interpreter.ts';
import type { OperationCost, ResourceName } from '../timing/operation-cost.ts';
import type { SharedResources } from '../timing/shared-resources.ts';
import type { Timeline } from '../timing/timeline.ts';
import { Lowering } from './lower.ts';
import type { LoweringInput } from './lowering-input.ts';
import type { LayerRecord } from './replay.ts';

export interface Boundary {
  bytes: number;
  prefillBytes: number;
}

export interface TimedRun {
  readonly prefillNs: number;
  readonly stepNs: readonly number[];
  readonly bound: { readonly resource: string; readonly share: number };
  /** Bounds of the steps' time as ratios to it, if all errors of the cost model on the path pointed one way. */
  readonly intervalRatio: readonly [number, number];
  /** Share of that time in operations outside what their cost law was fitted on. */
  readonly extrapolatedShare: number;
  /** Part of the decode steps' time in which their path waits for work that is left of the prompt, ns. */
  readonly leftOverNs: number;
  /** Mean ns per decode step by operation kind, overlap not subtracted. */
  readonly operationNs: Readonly<Record<string, number>>;
  /** By "from->to". */
  readonly boundaries: ReadonlyMap<string, Boundary>;
  readonly hbm: { readonly readBytes: number; readonly writeBytes: number; readonly weightReadBytes: number };
  /** KV and index bytes that the decode steps read in DRAM without a copy: on the CPU, or over the link by a kernel. */
  readonly dramReadBytes: number;
  /** Time that the host link carried bytes during the decode steps, by direction, and that the drive did, ns. */
  readonly busyNs: { readonly h2d: number; readonly d2h: number; readonly nvme: number };
  readonly decodeNs: number;
  readonly timeline: Timeline;
  readonly digest: string;
}

export interface TimedInput extends LoweringInput {
  readonly steps: number;
  readonly machine: SharedResources;
  readonly price: (operation: Operation) => OperationCost;
  /** The record that stands for each layer; null = dense or sliding attention in HBM. */
  readonly records: readonly (LayerRecord | null)[];
}

/** The prompt's place among the steps. */
const PROMPT = -1;

class Ledger {
  readonly boundaries = new Map<string, Boundary>();
  readBytes = 0;
  writeBytes = 0;
  weightReadBytes = 0;
  dramReadBytes = 0;

  add(program: Program, isPrefill: boolean): void {
    for (const operation of program.operations) {
      if (operation.kind === 'fetch' || operation.kind === 'spill') this.cross(operation, isPrefill);
      if (isPrefill) continue;
      const { read, write } = bytesOf(operation);
      if (operation.kind === 'attend' || operation.kind === 'score') this.dramReadBytes += read.dram ?? 0;
      if (operation.kind === 'dense') this.weightReadBytes += read.hbm ?? 0;
      else this.readBytes += read.hbm ?? 0;
      this.writeBytes += write.hbm ?? 0;
    }
  }

  private cross(operation: Extract<Operation, { kind: 'fetch' | 'spill' }>, isPrefill: boolean): void {
    const key = `${operation.from}->${operation.to}`;
    const boundary = this.boundaries.get(key) ?? { bytes: 0, prefillBytes: 0 };
    boundary[isPrefill ? 'prefillBytes' : 'bytes'] += operation.rows * operation.rowBytes;
    this.boundaries.set(key, boundary);
  }
}

/** The label that the critical path of the decode steps waits for most. */
const largestWait = (waits: ReadonlyMap<string, number>): TimedRun['bound'] => {
  let total = 0;
  let resource = 'none';
  let largest = 0;
  for (const [label, ns] of waits) {
    total += ns;
    if (ns > largest) {
      largest = ns;
      resource = label;
    }
  }
  return { resource, share: total === 0 ? 0 : largest / total };
};

const meanByKind = (timeline: Timeline, steps: number): Record<string, number> => {
  const sums = new Float64Array(KINDS.length);
  for (let row = 0; row < timeline.step.length; row++) {
    if (timeline.step[row] >= 0) sums[timeline.kind[row]] += timeline.endNs[row] - timeline.startNs[row];
  }
  const means: Record<string, number> = {};
  sums.forEach((ns, kind) => {
    if (ns > 0) means[KINDS[kind]] = ns / steps;
  });
  return means;
};

export const timePolicy = (input: TimedInput): TimedRun => {
  const { steps, records, machine, price } = input;
  const lowering = new Lowering(input);
  const interpreter = new Interpreter(machine, price);
  const ledger = new Ledger();
  const busy = (name: ResourceName) => interpreter.busyNs(name);
  const submit = (program: Program, step: number): void => {
    ledger.add(program, step === PROMPT);
    interpreter.submit(program, step);
  };
  const layersAt = (step: number) =>
    records.map((record) =>
      record === null ? null : { append: record.appends[step], choice: record.choices[step] },
    );
  submit(
    lowering.prefill(records.map((record) => (record === null ? null : { demand: record.prefill }))),
    PROMPT,
  );
  const prefillNs = interpreter.runThrough(PROMPT);
  const before = { h2d: busy('h2d'), d2h: busy('d2h'), nvme: busy('nvme') };
  const stepNs: number[] = [];
  let ended = prefillNs;
  submit(lowering.step(0, layersAt(0)), 0);
  for (let step = 0; step < steps; step++) {
    // The next step is queued before this one ends, so that loads that depend on no query can run ahead.
    if (step + 1 < steps) submit(lowering.step(step + 1, layersAt(step + 1)), step + 1);
    const now = interpreter.runThrough(step);
    stepNs.push(now - ended);
    ended = now;
  }
  const busyNs = {
    h2d: busy('h2d') - before.h2d,
    d2h: busy('d2h') - before.d2h,
    nvme: busy('nvme') - before.nvme,
  };
  interpreter.finish();
  const path = interpreter.criticalPath(PROMPT, steps - 1);
  const timeline = interpreter.timeline();
  return {
    prefillNs,
    stepNs,
    bound: largestWait(path.waitNs),
    intervalRatio: [path.loNs / (ended - prefillNs), path.hiNs / (ended - prefillNs)],
    extrapolatedShare: path.extrapolatedNs / (ended - prefillNs),
    leftOverNs: path.promptNs,
    operationNs: meanByKind(timeline, steps),
    boundaries: ledger.boundaries,
    hbm: {
      readBytes: ledger.readBytes,
      writeBytes: ledger.writeBytes,
      weightReadBytes: ledger.weightReadBytes,
    },
    dramReadBytes: ledger.dramReadBytes,
    busyNs,
    decodeNs: ended - prefillNs,
    timeline,
    digest: interpreter.digest(),
  };
};

/** Mean and percentiles of the step times, ns. */
export const stepSummary = (stepNs: readonly number[]) => {
  const { mean, p50, p95, p99 } = summarize(Float64Array.from(stepNs));
  return { mean, p50, p95, p99 };
};
