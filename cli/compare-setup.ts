/**
 * From flags to a resolved experiment and its trace: which trace, which model, which machine, how long. One line and
 * exit 2 for whatever contradicts itself; nothing is run before everything is known.
 */
import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { worldOf } from '../sim/decode/compare.ts';
import { type CompareExperiment, compareExperimentSchema } from '../sim/experiment.ts';
import { loadModel, modelNames } from '../sim/model/models.ts';
import type { ModelShape } from '../sim/model/shape.ts';
import type { AttentionTrace } from '../sim/trace/attention-trace.ts';
import { windowTrace } from '../sim/trace/window.ts';
import { configOfTrace } from '../traces/attention/model-config.ts';
import { type AttentionFile, openAttentionFile } from '../traces/attention/node-file.ts';
import { createSyntheticTrace } from '../traces/attention/synthetic.ts';
import { packageRoot } from '../traces/package-root.ts';
import { namedMachine } from './machine.ts';
import { modelOfFlag } from './model-flag.ts';
import { atBudget, type ChosenPolicies } from './policy-choices.ts';
import { UsageError } from './verb.ts';

export interface CompareFlags {
  readonly trace?: string | undefined;
  readonly synthetic?: string | undefined;
  readonly task?: string | undefined;
  readonly model?: string | undefined;
  readonly hardware: string;
  readonly stack?: string | undefined;
  readonly context?: number | undefined;
  readonly steps?: number | undefined;
  readonly budget?: number | undefined;
  readonly batch: number;
  readonly dense: boolean;
  readonly layers: string;
  readonly kvHeads: string;
  readonly seed: number;
}

export interface CompareSetup {
  readonly experiment: CompareExperiment;
  readonly trace: AttentionTrace;
  /** The trace in words, for people. */
  readonly traceTitle: string;
  /** Assumptions that the result should carry. */
  readonly notes: readonly string[];
}

/** Decode steps of a run when nobody asks for a number: enough for percentiles from a file, quick from a generator. */
const FILE_STEPS = 64;
const SYNTHETIC_STEPS = 16;
const SYNTHETIC_CONTEXT_TOKENS = 32768;
const ELEMENT_BYTES = 2;

/** The shipped sample of real attention. */
export const samplePath = (): string => {
  const folder = new URL('traces/samples/', packageRoot());
  const [sample] = readdirSync(folder)
    .filter((name) => name.endsWith('.safetensors'))
    .sort();
  if (sample === undefined)
    throw new UsageError('no sample trace is installed; pass --trace FILE or --synthetic MODEL');
  return fileURLToPath(new URL(sample, folder));
};

const indices = (text: string, flag: string): 'auto' | 'all' | number[] => {
  if (text === 'auto' || text === 'all') return text;
  const list = text.split(',').map(Number);
  if (list.some((n) => !Number.isInteger(n) || n < 0)) {
    throw new UsageError(`--${flag} ${text}: expected auto, all, or a list of indices such as 2,5,11`);
  }
  return list;
};

const SHAPE_FIELDS = ['layers', 'heads', 'kvHeads', 'headDim'] as const;

/** The trace's model: as asked, from the catalog by the trace's name and shape, or from the trace's own words. */
const modelOfTrace = (trace: AttentionFile, flags: CompareFlags) => {
  if (flags.model !== undefined) return { ...modelOfFlag(flags.model, 'model'), notes: [] };
  const shipped = modelNames.includes(trace.model) ? loadModel(trace.model) : undefined;
  if (shipped && SHAPE_FIELDS.every((field) => shipped[field] === trace.shape[field])) {
    return { source: trace.model, shape: shipped, notes: [] };
  }
  const { config, assumed } = configOfTrace(trace.metadata);
  const guess = assumed.length > 0 ? ` Assumed: ${assumed.join(', ')}.` : '';
  const note = `Model ${trace.model} is in no catalog: timed by the shape that the trace gives.${guess} --model CONFIG.json says it exactly.`;
  return { source: config, shape: loadModel(config, trace.model), notes: [note] };
};

const fromFile = (path: string, flags: CompareFlags) => {
  if (!existsSync(path)) throw new UsageError(`--trace ${path}: no such file`);
  const whole = openAttentionFile(path);
  const { source, shape, notes } = modelOfTrace(whole, flags);
  const trace = windowTrace(
    whole,
    flags.context ?? whole.shape.promptTokens,
    flags.steps ?? Math.min(FILE_STEPS, whole.shape.steps),
  );
  const name = path.split('/').at(-1) ?? path;
  return {
    trace,
    model: source,
    shape,
    origin: { kind: 'file' as const, name, digest: whole.digest },
    traceTitle: `attention of ${whole.model} (${name})`,
    notes,
  };
};

const fromGenerator = (preset: string, flags: CompareFlags) => {
  const imitated = modelOfFlag(preset, flags.synthetic === undefined ? 'model' : 'synthetic');
  const { source, shape } = flags.model === undefined ? imitated : modelOfFlag(flags.model, 'model');
  const promptTokens = flags.context ?? SYNTHETIC_CONTEXT_TOKENS;
  const spec = {
    // By the model's own name, whichever it was asked by; one without a preset of its own gets the generic one.
    preset: imitated.shape.name,
    shape: {
      layers: shape.layers,
      heads: shape.heads,
      kvHeads: shape.kvHeads,
      headDim: shape.headDim,
      ropeTheta: shape.ropeTheta,
    },
    promptTokens,
    steps: flags.steps ?? SYNTHETIC_STEPS,
    seed: flags.seed,
    ...(flags.task === undefined ? {} : { task: flags.task }),
  };
  const trace = createSyntheticTrace(spec);
  return {
    trace,
    model: source,
    shape,
    origin: { kind: 'synthetic' as const, preset: spec.preset, spec },
    traceTitle: `synthetic attention of ${shape.name}${flags.task === undefined ? '' : `, ${flags.task}`}`,
    notes: [],
  };
};

const chooseTrace = (flags: CompareFlags) => {
  if (flags.trace !== undefined && flags.synthetic !== undefined)
    throw new UsageError('--trace and --synthetic exclude each other');
  if (
    flags.task !== undefined &&
    (flags.trace !== undefined || (flags.synthetic ?? flags.model) === undefined)
  )
    throw new UsageError(`--task ${flags.task}: needs a generated trace, such as --synthetic llama-3.1-8b`);
  if (flags.trace !== undefined) return fromFile(flags.trace, flags);
  const preset = flags.synthetic ?? flags.model;
  return preset === undefined ? fromFile(samplePath(), flags) : fromGenerator(preset, flags);
};

export const setUpCompare = (
  flags: CompareFlags,
  chosen: ChosenPolicies,
): CompareSetup & { readonly shape: ModelShape } => {
  const machine = namedMachine(flags.hardware, flags.stack);
  const { trace, model, shape, origin, traceTitle, notes } = chooseTrace(flags);
  const experiment = compareExperimentSchema.parse({
    trace: origin,
    model,
    ...machine.source,
    policies: chosen.choices,
    contextTokens: trace.shape.promptTokens,
    steps: trace.shape.steps,
    batch: flags.batch,
    dense: flags.dense,
    elementBytes: ELEMENT_BYTES,
    layers: indices(flags.layers, 'layers'),
    kvHeads: indices(flags.kvHeads, 'kv-heads'),
    seed: flags.seed,
  });
  const setup = { experiment, trace, traceTitle, notes, shape };
  return flags.budget === undefined ? setup : withBudget(setup, chosen, flags.budget);
};

/** All policies that take a token budget at the same one. */
const withBudget = <S extends CompareSetup>(setup: S, chosen: ChosenPolicies, tokens: number): S => {
  const { experiment, trace, notes } = setup;
  const { choices, without } = atBudget(chosen, tokens, worldOf(experiment, trace));
  const others = without.length === 0 ? '' : `; of their own size: ${without.join(', ')}`;
  return {
    ...setup,
    experiment: compareExperimentSchema.parse({ ...experiment, policies: choices }),
    notes: [...notes, `Each query head attends to at most ${tokens} tokens and those generated${others}.`],
  };
};
