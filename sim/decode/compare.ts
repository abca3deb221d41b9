/**
 * `compare`: policies side by side on one attention trace and one machine. Isomorphic: the same call, with the same
 * experiment, gives the same digest in Node, in a worker and in the page.
 */
import { createDigest, digestOfJson } from '../engine/digest.ts';
import { SimError } from '../error.ts';
import type { CompareExperiment } from '../experiment.ts';
import { loadProfile, loadStack } from '../hardware/load.ts';
import { kvRowBytes } from '../model/ledger.ts';
import { loadModel } from '../model/models.ts';
import type { ModelShape } from '../model/shape.ts';
import { createPolicy } from '../policy/create-policy.ts';
import { type ExtraPolicies, findPolicy } from '../policy/find-policy.ts';
import type { World } from '../policy/policy.ts';
import { footprintsOf } from '../quality/footprint.ts';
import { summarise } from '../quality/summary.ts';
import { type CompareResult, type PolicyResult, RESULT_FORMAT } from '../result.ts';
import { costOf, type Machine, resolveMachine } from '../timing/cost.ts';
import type { Timeline } from '../timing/timeline.ts';
import { type AttentionTrace, type TraceField, traceFields } from '../trace/attention-trace.ts';
import { representativeOf } from '../trace/represent.ts';
import {
  bytesPerLayer,
  type CapacityInput,
  heldBytesPerStep,
  kvBytesPerStep,
  liveTokensPerStep,
  residencyOf,
  shortfall,
} from './capacity.ts';
import { formsOf } from './head-replay.ts';
import { contextNote, leftOverNote, limitsOf, sampleNote, weightsNote } from './notes.ts';
import { type LayerRecord, type PolicyReplay, replayPolicies } from './replay.ts';
import { chooseSample, type Sample } from './sampling.ts';
import { everyStep } from './step-sample.ts';
import { stepSummary, timePolicy } from './timing-run.ts';
import { trafficOf } from './traffic.ts';

export interface CompareInput {
  readonly experiment: CompareExperiment;
  /** The trace that `experiment.trace` names, cut to contextTokens + steps. */
  readonly trace: AttentionTrace;
  readonly extraPolicies?: ExtraPolicies;
  /** Lines for people that the result carries beside its own; outside the digest. */
  readonly notes?: readonly string[];
  /** Share done, 0..1. */
  readonly onProgress?: (share: number) => void;
}

export interface CompareRun {
  readonly result: CompareResult;
  /** One timeline per policy, in the order of the result's policies. Step -1 is the prompt. */
  readonly timelines: readonly Timeline[];
  /** Bytes of KV and index in HBM after each decode step, one row per policy: what the result sums up as a peak. */
  readonly kvBytes: readonly Float64Array[];
}

/** A prediction counts as calibrated while no more of its critical path than this is extrapolated. */
const EXTRAPOLATED_SHARE = 0.1;

const commonFields = (trace: AttentionTrace, layers: readonly number[]): ReadonlySet<TraceField> =>
  new Set(traceFields.filter((field) => layers.every((layer) => trace.has(field, layer))));

const createWorld = (
  model: ModelShape,
  experiment: CompareExperiment,
  fields: ReadonlySet<TraceField>,
  { shape, rope }: AttentionTrace,
  { layers, kvHeads }: Sample,
): World => {
  const kBytesPerToken = model.headDim * experiment.elementBytes;
  return {
    layers: model.layers,
    heads: model.heads,
    kvHeads: model.kvHeads,
    groupSize: model.heads / model.kvHeads,
    headDim: model.headDim,
    kBytesPerToken,
    vBytesPerToken: kvRowBytes(model, experiment.elementBytes) - kBytesPerToken,
    promptTokens: experiment.contextTokens,
    maxTokens: experiment.contextTokens + experiment.steps,
    fields,
    recordedLayers: shape.recordedLayers,
    replayed: { layers, kvHeads },
    rope: rope ?? null,
  };
};

/** The trace must be of the model that is timed: same heads, same dimensions. */
const checkShape = (trace: AttentionTrace, model: ModelShape, experiment: CompareExperiment): void => {
  const { shape } = trace;
  for (const field of ['layers', 'heads', 'kvHeads', 'headDim'] as const) {
    if (shape[field] !== model[field]) {
      throw new SimError(
        'invalid-input',
        `trace ${trace.name}: ${field} is ${shape[field]}, but model ${model.name} has ${model[field]}`,
      );
    }
  }
  if (shape.promptTokens !== experiment.contextTokens) {
    throw new SimError(
      'invariant-broken',
      `trace holds ${shape.promptTokens} prompt tokens, experiment says ${experiment.contextTokens}`,
    );
  }
  if (shape.steps < experiment.steps) {
    throw new SimError(
      'invalid-input',
      `--steps ${experiment.steps}: trace ${trace.name} records ${shape.steps} decode steps`,
    );
  }
};

/** The record that stands for each layer of the model; null = dense or sliding attention. */
export const recordsByLayer = (
  model: ModelShape,
  { policy, records }: PolicyReplay,
): readonly (LayerRecord | null)[] => {
  const replayed = [...records.keys()];
  return model.layerKinds.map((kind, layer) => {
    if (kind === 'sliding' || policy.isDenseLayer(layer)) return null;
    return records.get(representativeOf(layer, replayed)) ?? null;
  });
};

const footprintsOfRun = (capacity: CapacityInput) =>
  footprintsOf(capacity.promptTokens, liveTokensPerStep(capacity), heldBytesPerStep(capacity));

const policyDigest = (result: Omit<PolicyResult, 'digest'>, events: string): string => {
  const digest = createDigest();
  digest.addString(events);
  digest.addString(digestOfJson(result));
  return digest.hex();
};

/** What a comparison is timed on: the part of an experiment that no policy's choice depends on. */
export type TimingChoice = Pick<CompareExperiment, 'hardware' | 'stack' | 'batch' | 'dense'>;

/** What an experiment replays: the model, a sample of the trace, and the world that its policies see. */
export const arrange = (experiment: CompareExperiment, trace: AttentionTrace) => {
  const model = loadModel(experiment.model);
  if (!model.layerKinds.includes('full')) {
    throw new SimError(
      'not-supported',
      `model ${model.name}: every layer slides (${model.slidingWindowTokens} tokens): expected a layer with full attention, in which policies choose`,
    );
  }
  checkShape(trace, model, experiment);
  const excludedLayers = model.layerKinds.flatMap((kind, layer) => (kind === 'sliding' ? [layer] : []));
  const { layers, kvHeads, steps, seed } = experiment;
  const sample = chooseSample(trace.shape, { layers, kvHeads, steps, seed, excludedLayers });
  const fields = commonFields(trace, sample.layers);
  if (!fields.has('k') || !fields.has('q')) {
    const has = [...fields].join(', ') || 'none';
    throw new SimError(
      'not-supported',
      `trace ${trace.name}: expected k and q to replay policies on, found ${has}; kvtier_capture records them, --synthetic MODEL generates them`,
    );
  }
  const world = createWorld(model, experiment, fields, trace, sample);
  return { model, sample, fields, world };
};

/** The world that an experiment's policies see. Throws SimError when the trace does not suit the experiment. */
export const worldOf = (experiment: CompareExperiment, trace: AttentionTrace): World =>
  arrange(experiment, trace).world;

/**
 * Replays the policies, in which no machine and no batch has a say; what it returns times their choices on any.
 * Throws SimError on contradictory input; a configuration that does not fit is a result.
 */
export const prepare = (input: CompareInput): ((choice: TimingChoice) => CompareRun) => {
  const { experiment, trace } = input;
  const { steps, seed } = experiment;
  const { model, sample, fields, world } = arrange(experiment, trace);
  const policies = experiment.policies.map((choice) =>
    createPolicy(findPolicy(choice.name, input.extraPolicies), choice.config, world, choice.label),
  );
  // A sample of steps would teach a learning policy less than it would see.
  const replayed = policies.some(({ learns }) => learns) ? { ...sample, ...everyStep } : sample;
  const replays = replayPolicies({
    trace,
    world,
    sample: replayed,
    steps,
    seed,
    policies,
    ...(input.onProgress ? { onProgress: input.onProgress } : {}),
  });
  const notes = [
    ...sampleNote(replayed, trace),
    ...contextNote(model, experiment),
    ...weightsNote(model, experiment),
    ...(input.notes ?? []),
  ];
  const limits = limitsOf(trace, fields, steps, replayed);
  return (choice) =>
    timeReplays({ ...experiment, ...choice }, trace, model, world, replays, { notes, limits });
};

/** Runs the experiment: policies are replayed on the trace, and what they chose is timed on the machine. */
export const compare = (input: CompareInput): CompareRun => prepare(input)(input.experiment);

const timeReplays = (
  experiment: CompareExperiment,
  trace: AttentionTrace,
  model: ModelShape,
  world: World,
  replays: readonly PolicyReplay[],
  { notes, limits }: { readonly notes: readonly string[]; readonly limits: readonly string[] },
): CompareRun => {
  const machine = resolveMachine(loadProfile(experiment.hardware), loadStack(experiment.stack));
  const runs = replays.map((replay, at) =>
    assess(experiment, model, machine, world, replay, experiment.policies[at].label),
  );
  const results = runs.map(({ result }) => result);
  const digest = digestOfJson({
    experiment,
    trace: trace.digest,
    policies: results.map((result) => result.digest),
  });
  return {
    result: {
      format: RESULT_FORMAT,
      kind: 'compare',
      experiment,
      seed: experiment.seed,
      policies: results,
      digest,
      notes: [...notes, ...runs.flatMap(({ note }) => note)],
      limits: [...limits],
    },
    timelines: runs.map(({ timeline }) => timeline),
    kvBytes: runs.map(({ kvBytes }) => kvBytes),
  };
};

const assess = (
  experiment: CompareExperiment,
  model: ModelShape,
  machine: Machine,
  world: World,
  replay: PolicyReplay,
  label: string,
) => {
  const { policy } = replay;
  const { batch, steps, dense, elementBytes, contextTokens: promptTokens } = experiment;
  const records = recordsByLayer(model, replay);
  const common = { model, policy, batch, steps, dense, elementBytes, promptTokens, records };
  const residency = residencyOf(common);
  const run = timePolicy({
    ...common,
    layerDramBytes: bytesPerLayer(residency, records),
    forms: formsOf(policy, world),
    machine,
    price: (operation) => costOf(operation, machine),
  });
  const short = shortfall(residency, machine.capacityBytes);
  const fits = Object.keys(short).length === 0;
  const stepNs = stepSummary(run.stepNs);
  const body = {
    policy: label,
    fits,
    ...(fits ? {} : { shortBytes: short }),
    prefillNs: run.prefillNs,
    stepNs,
    stepIntervalNs: run.intervalRatio.map((ratio) => ratio * stepNs.mean) as [number, number],
    domain: run.extrapolatedShare <= EXTRAPOLATED_SHARE ? ('calibrated' as const) : ('extrapolated' as const),
    tokensPerS: (batch * 1e9) / stepNs.mean,
    bound: run.bound,
    operationNs: { ...run.operationNs },
    traffic: trafficOf(run, steps),
    resident: residency,
    quality: summarise(replay.quality, footprintsOfRun(common)),
    inputs: policy.inputs,
  };
  return {
    result: { ...body, digest: policyDigest(body, run.digest) },
    timeline: run.timeline,
    kvBytes: kvBytesPerStep(common),
    note: leftOverNote(label, run.leftOverNs, run.decodeNs),
  };
};
