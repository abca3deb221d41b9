/**
 * One set-up of a paper, simulated: the policy chooses on a trace of the right shape, and the engine times what it
 * chose on the paper's machine. The same code as `kvtier compare`; nothing here knows what was published.
 */
import { prepare } from '../../sim/decode/compare.ts';
import { digestOfJson } from '../../sim/engine/digest.ts';
import { SimError } from '../../sim/error.ts';
import { compareExperimentSchema } from '../../sim/experiment.ts';
import { DEFAULT_STACK } from '../../sim/hardware/load.ts';
import { loadModel } from '../../sim/model/models.ts';
import type { ModelShape } from '../../sim/model/shape.ts';
import { firstIssue } from '../../sim/near-names.ts';
import { findPolicy } from '../../sim/policy/find-policy.ts';
import type { PolicyPlugin } from '../../sim/policy/policy.ts';
import type { AttentionTrace } from '../../sim/trace/attention-trace.ts';
import { createSyntheticTrace } from '../../traces/attention/synthetic.ts';
import type { MachineDescription } from '../overlay.ts';
import { createEvenTrace, type EvenRows } from './even-trace.ts';
import { type Measured, measure } from './metrics.ts';
import type { Setup } from './schema.ts';

const SEED = 1;
/** An experiment names a machine and a batch; a replay has no use for them. */
const ANY_MACHINE = 'h100-sxm';
/** Bytes of one KV element: every paper of the collection keeps bf16 or fp16 where it does not code. */
const ELEMENT_BYTES = 2;
/** Layers replayed when a set-up names none: one of the middle, which no policy keeps dense. */
const MIDDLE = 1 / 3;

/** What only the timing of a set-up depends on, and the rest, on which the policy's choices do. */
export type TimingSetup = Pick<Setup, 'batch' | 'dense'>;
type ReplaySetup = Omit<Setup, 'batch' | 'dense' | 'stack'>;

/** Set-ups with the same key share a replay. */
export const replayKey = ({ batch: _, dense: __, stack: ___, ...rest }: Setup): string => digestOfJson(rest);

const traceOf = (
  setup: ReplaySetup,
  model: ModelShape,
  plugin: PolicyPlugin,
  rows: EvenRows,
): AttentionTrace => {
  const { layers, heads, kvHeads, headDim, ropeTheta } = model;
  const { contextTokens: promptTokens, steps, attention } = setup;
  if (attention === 'even') {
    const recordedLayers = Array.from({ length: layers }, (_, layer) => layer);
    const shape = { layers, heads, kvHeads, headDim, promptTokens, steps, recordedLayers };
    return createEvenTrace(model.name, shape, [...plugin.requires, ...(plugin.prefers ?? [])], rows);
  }
  const shape = { layers, heads, kvHeads, headDim, ropeTheta };
  return createSyntheticTrace({ preset: attention, shape, promptTokens, steps, seed: SEED });
};

/**
 * Lets the policy choose; what it returns gives everything a paper may have measured, on a machine of the fit's choice.
 * Throws SimError for an unknown policy or a bad parameter.
 */
export const simulate = (
  setup: ReplaySetup,
  rows: EvenRows,
): ((machine: MachineDescription, timing: TimingSetup) => Measured) => {
  const model = loadModel(setup.model, 'model of the set-up');
  const { name } = setup.policy;
  const plugin = findPolicy(name);
  const config = plugin.config.safeParse(setup.policy.config);
  if (!config.success)
    throw new SimError('invalid-input', `policy ${name}: ${firstIssue(config.error.issues)}`);
  const trace = traceOf(setup, model, plugin, rows);
  const experiment = compareExperimentSchema.parse({
    trace: { kind: 'file', name: trace.name, digest: trace.digest },
    model: setup.model,
    hardware: ANY_MACHINE,
    stack: DEFAULT_STACK,
    policies: [{ label: name, name, config: config.data }],
    contextTokens: setup.contextTokens,
    steps: setup.steps,
    batch: 1,
    dense: true,
    elementBytes: ELEMENT_BYTES,
    layers: setup.layers === 'auto' ? [Math.floor(model.layers * MIDDLE)] : setup.layers,
    kvHeads: setup.kvHeads,
    seed: SEED,
  });
  const time = prepare({ experiment, trace });
  return (machine, { batch, dense }) => measure(time({ ...machine, batch, dense }), model, dense);
};

/** Two set-ups with the same key are the same run. */
export const setupKey = (setup: Setup): string => digestOfJson(setup);
