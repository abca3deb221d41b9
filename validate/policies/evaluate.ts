/**
 * Recorded samples against the model of today: each case's program is timed again on the given machine description.
 * Nothing is fitted here.
 */
import { quantiles } from '../../sim/engine/stats.ts';
import type { Profile } from '../../sim/hardware/schema.ts';
import type { Stack } from '../../sim/hardware/stack-schema.ts';
import type { Operation } from '../../sim/program/operation.ts';
import { type Machine, resolveMachine } from '../../sim/timing/cost.ts';
import type { TouchedBytes } from '../execute/binding.ts';
import { programBytes, sumOfBytes } from '../execute/program-bytes.ts';
import { medianOf } from '../samples.ts';
import { floorNsOf, type StepFloor, stepFloor } from './floor.ts';
import { predictStep } from './predict-step.ts';
import type { CaseSamples, ValidationSamples } from './samples.ts';
import { type Pair, summariseValidation, type ValidationSummary } from './statistics.ts';

/** Operations of one kind in all layers of a case: their time alone, summed, ns. */
export interface KindResidual {
  readonly kind: string;
  readonly operations: number;
  readonly predictedNs: number;
  readonly measuredNs: number;
  /** Their bytes and flops at the machine's ceilings. */
  readonly floorNs: number;
}

export interface CaseResult {
  readonly policy: string;
  readonly model: string;
  readonly context: number;
  readonly batch: number;
  readonly budget: number | null;
  readonly layers: number;
  readonly predictedNs: number;
  readonly measuredNs: number;
  /** Of the measured repeats, 5th and 95th percentile. */
  readonly spreadNs: readonly [number, number];
  readonly roundNs: readonly number[];
  readonly calibrated: boolean;
  readonly predictedBytes: number;
  readonly measuredBytes: number;
  readonly bytes: { readonly predicted: TouchedBytes; readonly measured: TouchedBytes };
  readonly outputError: number | null;
  readonly jaccard: number | null;
  readonly graph: boolean;
  readonly calls: number;
  readonly standIns: CaseSamples['standIns'];
  readonly kinds: readonly KindResidual[];
  readonly floor: CaseFloor;
}

/** The least time of the case's program, and where the measured time goes beyond it. */
export interface CaseFloor extends StepFloor {
  /** Measured over floor. */
  readonly ratio: number;
  /** Kind of operations whose time alone exceeds its own floor most, both summed over the layers. */
  readonly worst: string | null;
}

export interface Validation {
  readonly machine: ValidationSamples['machine'];
  readonly cases: readonly CaseResult[];
  readonly refused: ValidationSamples['refused'];
  readonly summary: ValidationSummary;
}

const labelOf = (operation: Operation): string => {
  if (operation.kind === 'score') return `score ${operation.index}`;
  if (operation.kind === 'fetch' || operation.kind === 'spill') return `${operation.kind} ${operation.mode}`;
  if (operation.kind === 'encode' || operation.kind === 'decode')
    return `${operation.kind} ${operation.codec}`;
  if (operation.kind === 'attend' && operation.where === 'cpu') return 'attend on the CPU';
  return operation.kind;
};

const kindsOf = (
  { operations, operationNs }: CaseSamples,
  startNs: Float64Array,
  endNs: Float64Array,
  machine: Machine,
): readonly KindResidual[] => {
  const kinds = new Map<string, { -readonly [K in keyof KindResidual]: KindResidual[K] }>();
  for (const [at, start, end] of operationNs) {
    const kind = labelOf(operations[at]);
    const sum = kinds.get(kind) ?? { kind, operations: 0, predictedNs: 0, measuredNs: 0, floorNs: 0 };
    sum.operations++;
    sum.predictedNs += endNs[at] - startNs[at];
    sum.measuredNs += end - start;
    sum.floorNs += floorNsOf([operations[at]], machine);
    kinds.set(kind, sum);
  }
  return [...kinds.values()];
};

const floorOf = (
  { operations, calls }: CaseSamples,
  kinds: readonly KindResidual[],
  measuredNs: number,
  machine: Machine,
): CaseFloor => {
  const floor = stepFloor(operations, machine, calls);
  const excess = (kind: KindResidual): number => kind.measuredNs - kind.floorNs;
  const worst = [...kinds].sort((a, b) => excess(b) - excess(a)).at(0);
  return { ...floor, ratio: measuredNs / floor.floorNs, worst: worst?.kind ?? null };
};

const resultOf = (samples: CaseSamples, machineOf: MachineOf): CaseResult => {
  const { policy, model, context, batch, budget, layers, rounds, graph, calls, operations } = samples;
  const machine = machineOf(graph);
  const { totalNs, startNs, endNs, calibrated } = predictStep(operations, machine);
  const kinds = kindsOf(samples, startNs, endNs, machine);
  const predicted = programBytes(operations);
  const all = rounds.flat();
  // As of a calibration's sites: what else runs on a machine only adds time, and on a shared host to whole rounds.
  const measuredNs = Math.min(...rounds.map(medianOf));
  const [low, high] = quantiles(Float64Array.from(all), [0.05, 0.95]);
  return {
    policy,
    model,
    context,
    batch,
    budget,
    layers,
    predictedNs: totalNs,
    measuredNs,
    spreadNs: [low, high],
    roundNs: rounds.map(medianOf),
    calibrated,
    predictedBytes: sumOfBytes(predicted),
    measuredBytes: sumOfBytes(samples.bytes),
    bytes: { predicted, measured: samples.bytes },
    outputError: samples.outputError,
    jaccard: samples.jaccard,
    graph,
    calls,
    standIns: samples.standIns,
    kinds,
    floor: floorOf(samples, kinds, measuredNs, machine),
  };
};

const pairOf = (result: CaseResult): Pair => ({
  ...result,
  group: `${result.model} ${result.context} ${result.batch} ${result.budget ?? 'own'}`,
});

/**
 * The machine as it runs a list of calls: recorded as a graph, or each call launched into its stream. Lists with copies of
 * rows that are chosen anew in each step, or with work of the host, cannot be recorded.
 */
export type MachineOf = (graph: boolean) => Machine;

export const machineFor = (hardware: Profile, stack: Stack): MachineOf => {
  const recorded = resolveMachine(hardware, { ...stack, launch: 'graph' });
  // The host launches ahead of the GPU, in the time that empty kernels take it; what runs on the GPU is the same.
  const launched = resolveMachine(hardware, {
    ...stack,
    launch: 'graph',
    launchesAhead: true,
    hostNs: hardware.accelerator.launch.streamNs,
  });
  return (graph) => (graph ? recorded : launched);
};
/** Holds the samples to the model on a machine. Throws RangeError where no case was measured. */
export const evaluate = (samples: ValidationSamples, machineOf: MachineOf): Validation => {
  const cases = samples.cases.map((one) => resultOf(one, machineOf));
  return {
    machine: samples.machine,
    cases,
    refused: samples.refused,
    summary: summariseValidation(cases.map(pairOf)),
  };
};
