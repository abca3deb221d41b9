/**
 * `kvtier validate`: runs policies' decode steps on real kernels and holds the model's predictions against what was
 * measured. Replaying (`--prepare`), running (`--from`) and judging (`--evaluate`) may happen on different machines.
 */
import * as z from 'zod';
import { KernelError } from '../kernels/backend.ts';
import { replaySteps } from '../sim/decode/step-program.ts';
import type { ModelShape } from '../sim/model/shape.ts';
import { evaluate, machineFor } from '../validate/policies/evaluate.ts';
import { type PreparedCase, readWorkloads, writeWorkloads } from '../validate/policies/pack.ts';
import { casesOf } from '../validate/policies/prepare-cases.ts';
import {
  readValidationSamples,
  type ValidationSamples,
  writeValidationSamples,
} from '../validate/policies/samples.ts';
import { setUpCompare } from './compare-setup.ts';
import { machineFlags, type NamedMachine, namedMachine } from './machine.ts';
import { outputFile, outputFolder, writeOutput } from './output.ts';
import { budgetTokens, choosePolicies } from './policy-choices.ts';
import { runPrepared } from './validate-run.ts';
import { renderValidation, type ValidationDocument, validationDocument } from './validate-table.ts';
import { UsageError, type Verb, type VerbContext } from './verb.ts';

const DEFAULT_POLICIES = [
  'full',
  'full-offload',
  'streaming-llm',
  'snapkv',
  'h2o',
  'quest',
  'quest:tier=dram',
  'arkvale',
  'pqcache',
  'shadowkv',
  'ttkv',
  'pariskv',
  'magicpig',
  'retroinfer',
  'clusterkv',
  'wg-kv',
  'kivi',
  'deltakv',
];

/** Where the kernels here do a policy's work in other bytes than its authors' do. */
const KERNEL_DEFAULTS = { pariskv: { counts: 'halves' }, flexgen: { fused: 'true' } };

const flags = z.object({
  backend: z
    .enum(['cuda', 'cpu', 'reference'])
    .optional()
    .describe('what runs the kernels; default: cuda where there is a GPU, else cpu'),
  policies: z
    .array(z.string().min(1))
    .min(1)
    .default(DEFAULT_POLICIES)
    .describe(
      'policies: name, or name:param=value;param=value; pariskv counts in halves, as its kernel does',
    ),
  set: z.array(z.string()).default([]).describe('policy.param=value, repeatable'),
  contexts: z
    .array(z.int().min(1).meta({ suffix: true }))
    .default([])
    .describe("tokens in the cache when decoding starts; default: the trace's, or 32K"),
  batches: z.array(z.int().min(1)).default([1]).describe('sequences decoded together'),
  budgets: z
    .array(budgetTokens.meta({ suffix: true }))
    .default([])
    .describe('tokens that a query head attends to, for policies that take a budget; default: their own'),
  trace: z.string().optional().describe('attention trace (.safetensors); default: the shipped sample'),
  synthetic: z.string().optional().describe('generate the attention of this model instead'),
  model: z
    .string()
    .optional()
    .describe("model to run: a catalog name or a config.json; default: the trace's"),
  hardware: machineFlags.hardware,
  stack: z
    .string()
    .optional()
    .describe(
      'software stack that predicts: a name or a file (.json); default: kvtier-kernels, or what was measured with the machine',
    ),
  steps: z.int().min(1).default(4).describe('decode steps that are replayed; the last one is run'),
  layers: z.string().default('auto').describe('layers whose attention is replayed: auto, all, or a list'),
  kvHeads: z.string().default('auto').describe('KV heads that are replayed: auto, all, or a list'),
  layersLimit: z.int().min(1).default(1024).describe('layers that are run at most'),
  memory: z
    .number()
    .positive()
    .default(4 * 2 ** 30)
    .meta({ suffix: true })
    .describe('bytes of each tier that a case may take; cases that need more run fewer layers'),
  dense: z.boolean().default(false).describe('run projections and MLP too'),
  repeats: z.int().min(1).max(1000).default(10).describe('timed runs of a case in each round'),
  rounds: z
    .int()
    .min(1)
    .max(20)
    .default(2)
    .describe('times that the whole suite is run, in another order each'),
  timeLimit: z
    .number()
    .positive()
    .default(86_400)
    .describe('seconds after which no case is begun; what was measured is kept'),
  caseLimit: z
    .number()
    .positive()
    .default(600)
    .describe('seconds after which a case, and the backend, is given up'),
  verbose: z.boolean().default(false).describe('say each case on stderr as it ends'),
  checkUpTo: z
    .int()
    .min(0)
    .default(2 ** 20)
    .meta({ suffix: true })
    .describe('longest context at which outputs and selected sets are checked'),
  once: z.boolean().default(false).describe('run each case once and check nothing (under a profiler)'),
  prepare: outputFile.optional().describe('write the workloads to this file (.json.gz) and run nothing'),
  from: z.string().optional().describe('run the workloads of this file'),
  samples: outputFile.optional().describe('keep the raw samples in this file (.json.gz)'),
  evaluate: z.string().optional().describe('judge recorded samples by the model as it is now, run nothing'),
  out: outputFolder.optional().describe('folder for validation.json and report.html'),
  seed: z.int().min(0).default(1).describe('seed of traces, contents and order'),
});

type ValidateFlags = z.infer<typeof flags>;

/** What predicts: the machine that is named, running kvtier's own kernels. */
const judgeOf = ({ hardware, stack }: ValidateFlags): NamedMachine =>
  namedMachine(hardware, stack, 'kvtier-kernels');

/** A GPU's profile says nothing of a processor, nor a processor's of a GPU. */
const noteOtherMachine = (
  { hardware }: ValidateFlags,
  { profile }: NamedMachine,
  { machine: { backend, name } }: ValidationSamples,
  context: VerbContext,
): void => {
  const describesProcessor = profile.link.kind === 'memory';
  if (describesProcessor === (backend !== 'cuda')) return;
  context.note(
    `${hardware} describes another kind of machine than ${name}: \`kvtier calibrate --backend ${backend} --out mine.json\` writes what --hardware mine.json --stack mine.stack.json predict it by`,
  );
};

const KERNEL_WEIGHT_BYTES = 2;

/** The kernel of products reads bf16; of other weights it would read more or fewer bytes than the program says. */
const checkWeights = ({ name, matrixElementBytes }: ModelShape): void => {
  if (matrixElementBytes !== KERNEL_WEIGHT_BYTES)
    throw new UsageError(
      `--dense: expected a model with weights of ${KERNEL_WEIGHT_BYTES} bytes, as kernels multiply them; those of ${name} take ${matrixElementBytes}`,
    );
};

type Chosen = Awaited<ReturnType<typeof choosePolicies>>;

const prepared = (
  given: ValidateFlags,
  chosen: Chosen,
  memoryBytes: number,
  context: VerbContext,
): readonly PreparedCase[] => {
  const contexts = given.contexts.length === 0 ? [undefined] : given.contexts;
  const budgets = given.budgets.length === 0 ? [undefined] : given.budgets;
  const cases: PreparedCase[] = [];
  const progress = context.progress('replaying attention', contexts.length * budgets.length);
  let done = 0;
  for (const tokens of contexts) {
    for (const budget of budgets) {
      const { experiment, trace, shape } = setUpCompare(
        { ...given, context: tokens, budget, batch: 1, task: undefined },
        chosen,
      );
      if (given.dense) checkWeights(shape);
      const before = done;
      const onProgress = (share: number): void => progress.update(before + share);
      const replay = replaySteps({ experiment, trace, extraPolicies: chosen.extra, onProgress });
      const { batches, layersLimit: layers } = given;
      const request = { batches, layers, memoryBytes, budget: budget ?? null, trace: experiment.trace };
      cases.push(...casesOf(replay, { ...request, context: experiment.contextTokens }));
      done++;
    }
  }
  progress.end();
  return cases;
};

const measured = async (given: ValidateFlags, context: VerbContext): Promise<ValidationSamples | null> => {
  if (given.evaluate !== undefined) return readValidationSamples(given.evaluate);
  // Bad input is found before a backend is opened.
  const read = given.from === undefined ? null : readWorkloads(given.from);
  const chosen = read === null ? await choosePolicies(given.policies, given.set, KERNEL_DEFAULTS) : null;
  const getCases = (memoryBytes: number): readonly PreparedCase[] =>
    chosen === null ? (read ?? []) : prepared(given, chosen, memoryBytes, context);
  if (given.prepare === undefined) return await runPrepared(getCases, given, context);
  const cases = getCases(given.memory);
  writeWorkloads(given.prepare, cases);
  context.note(`wrote ${cases.length} cases to ${given.prepare}`);
  return null;
};

/** The result and its page in one folder. */
const writeValidation = async (
  directory: string,
  document: ValidationDocument,
): Promise<readonly string[]> => {
  const { renderValidationPage } = await import('../viz/report/render-validation.ts');
  return [
    writeOutput(directory, 'validation.json', [JSON.stringify(document, null, 2), '\n']),
    writeOutput(directory, 'report.html', [renderValidationPage(document)]),
  ];
};

export const verb = {
  name: 'validate',
  summary: 'run policies on real kernels and compare with what the model predicts',
  flags,
  examples: [
    'kvtier validate --backend cpu --hardware mine.json --stack mine.stack.json',
    'kvtier validate --synthetic llama-3.1-8b --contexts 32K,128K --batches 1,8 --hardware my-gpu.json',
    'kvtier validate --synthetic llama-3.1-8b --contexts 32K --prepare cases.json.gz',
    'kvtier validate --from cases.json.gz --samples samples.json.gz',
    'kvtier validate --evaluate samples.json.gz --hardware h100-sxm --out out/',
  ],
  async run(given, context) {
    if (given.evaluate !== undefined && (given.from ?? given.prepare) !== undefined)
      throw new UsageError('--evaluate runs nothing: it excludes --from and --prepare');
    const judge = judgeOf(given);
    const samples = await measured(given, context);
    if (samples === null) return;
    if (given.samples !== undefined && given.evaluate === undefined) {
      writeValidationSamples(given.samples, samples);
      context.note(`wrote ${given.samples}`);
    }
    for (const { policy, context: tokens, batch, reason } of samples.refused)
      context.note(`not run: ${policy}, ${tokens} tokens, batch ${batch}: ${reason}`);
    const [refused] = samples.refused;
    if (samples.cases.length === 0)
      throw new KernelError('unsupported', `no case could be run: ${refused?.policy}: ${refused?.reason}`);
    noteOtherMachine(given, judge, samples, context);
    const document = validationDocument(evaluate(samples, machineFor(judge.profile, judge.stack)), {
      ...given,
      stack: judge.stackName,
    });
    const files = given.out === undefined ? [] : await writeValidation(given.out, document);
    context.printJson(document);
    context.print(renderValidation(document, context.columns));
    for (const file of files) context.note(`wrote ${file}`);
  },
} satisfies Verb<typeof flags>;
