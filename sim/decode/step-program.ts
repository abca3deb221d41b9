/**
 * One decode step of each policy as a program together with the rows that it chose: what a kernel backend executes and
 * the engine times. The same replay as `compare`; the step taken is the last one whose choice counts.
 */
import { SimError } from '../error.ts';
import type { StoredForm } from '../memory/head-cache.ts';
import { layerContextTokens } from '../model/ledger.ts';
import type { ModelShape } from '../model/shape.ts';
import { createPolicy } from '../policy/create-policy.ts';
import { findPolicy } from '../policy/find-policy.ts';
import type { Policy, World } from '../policy/policy.ts';
import type { Operation } from '../program/operation.ts';
import { representativeOf } from '../trace/represent.ts';
import { bytesPerLayer, residencyOf } from './capacity.ts';
import { arrange, type CompareInput, recordsByLayer } from './compare.ts';
import type { HeadChoice } from './head-choice.ts';
import { formsOf } from './head-replay.ts';
import { Lowering } from './lower.ts';
import { type PolicyReplay, replayPolicies } from './replay.ts';
import { everyStep } from './step-sample.ts';

/** What a layer attends to: the choices of a replayed layer's heads, or (null) so many tokens in HBM, all of them. */
export interface LayerChoice {
  readonly replayedLayer: number | null;
  readonly denseTokens: number;
}

export interface StepProgram {
  /** What the experiment calls the policy. */
  readonly policy: string;
  readonly batch: number;
  /** Decode step that it is, from 0, and tokens in the cache by then. */
  readonly step: number;
  readonly tokens: number;
  /** `after` are positions in this list: what earlier steps did has ended. */
  readonly operations: readonly Operation[];
  /** Per executed layer. */
  readonly layers: readonly LayerChoice[];
  /** Per replayed layer, its replayed heads. */
  readonly choices: Readonly<Record<number, readonly HeadChoice[]>>;
  readonly forms: readonly StoredForm[];
  readonly transfer: Policy['transfer'];
}

export interface StepReplay {
  readonly model: ModelShape;
  readonly world: World;
  /** KV heads that were replayed; the nearest stands for the others. */
  readonly kvHeads: readonly number[];
  readonly policies: readonly string[];
  /** The programs of all policies for `batch` sequences over the model's first `layers` layers. */
  programs(batch: number, layers: number): readonly StepProgram[];
}

/** Every one of `steps` steps chosen, none measured. */
const unmeasured = (steps: number) => ({ everySteps: steps + 1, leadSteps: steps });

/** Per policy: the last step with a choice that counts, and by replayed layer what its heads chose there. */
interface Captured {
  step: number;
  readonly choices: Map<number, readonly HeadChoice[]>;
}

/** Replays the policies of an experiment; only its batch may still change. Throws SimError as `compare` does. */
export const replaySteps = ({ experiment, trace, extraPolicies, onProgress }: CompareInput): StepReplay => {
  const { model, sample, world } = arrange(experiment, trace);
  const policies = experiment.policies.map((choice) =>
    createPolicy(findPolicy(choice.name, extraPolicies), choice.config, world, choice.label),
  );
  const captured = new Map<Policy, Captured>(
    policies.map((policy) => [policy, { step: -1, choices: new Map() }]),
  );
  const replay = (learning: boolean): readonly PolicyReplay[] =>
    replayPolicies({
      trace,
      world,
      // Choices at every step, without measuring them against exact attention unless a policy learns from it.
      sample: { ...sample, ...(learning ? everyStep : unmeasured(experiment.steps)) },
      steps: experiment.steps,
      seed: experiment.seed,
      policies: policies.filter(({ learns }) => learns === learning),
      ...(onProgress ? { onProgress } : {}),
      onChoice: (policy, layer, step, choices) => {
        const of = captured.get(policy);
        if (of === undefined) return;
        of.step = step;
        of.choices.set(layer, choices);
      },
    });
  const byPolicy = new Map(
    [...replay(false), ...replay(true)].map((replayed) => [replayed.policy, replayed]),
  );
  const replays = policies.flatMap((policy) => byPolicy.get(policy) ?? []);
  const labels = experiment.policies.map(({ label }) => label);
  return {
    model,
    world,
    kvHeads: sample.kvHeads,
    policies: labels,
    programs: (batch, layers) =>
      replays.map((replay, at) =>
        programOf(
          replay,
          { ...experiment, batch },
          model,
          world,
          layers,
          labels[at],
          captured.get(replay.policy),
        ),
      ),
  };
};

type Timed = Pick<CompareInput['experiment'], 'batch' | 'dense' | 'elementBytes' | 'contextTokens' | 'steps'>;

const programOf = (
  replay: PolicyReplay,
  { batch, dense, elementBytes, contextTokens: promptTokens, steps }: Timed,
  model: ModelShape,
  world: World,
  layers: number,
  label: string,
  captured: Captured | undefined,
): StepProgram => {
  if (captured === undefined || captured.step < 0)
    throw new SimError('invariant-broken', `policy ${label}: no step of its replay has a choice`);
  const { policy, records: replayed } = replay;
  const { step, choices } = captured;
  const records = recordsByLayer(model, replay).slice(0, layers);
  const common = { model, policy, batch, dense, elementBytes, promptTokens };
  const forms = formsOf(policy, world);
  const layerDramBytes = bytesPerLayer(residencyOf({ ...common, steps, records }), records);
  const { operations } = new Lowering({ ...common, forms, layerDramBytes }).step(
    step,
    records.map((record) => record && { append: record.appends[step], choice: record.choices[step] }),
  );
  const tokens = promptTokens + step + 1;
  return {
    policy: label,
    batch,
    step,
    tokens,
    operations,
    layers: records.map((record, layer) => ({
      replayedLayer: record === null ? null : representativeOf(layer, [...replayed.keys()]),
      denseTokens: layerContextTokens(model, layer, tokens),
    })),
    choices: Object.fromEntries(choices),
    forms,
    // Runs that end early are copied token by token: as many bytes, and tokens of a run lie side by side.
    transfer: policy.transfer.ragged ? { ...policy.transfer, rowTokens: 1 } : policy.transfer,
  };
};
