/** `kvtier compare`: policies side by side on one attention trace and one machine. The main job. */
import * as z from 'zod';
import { type CompareRun, compare } from '../sim/decode/compare.ts';
import type { CompareExperiment } from '../sim/experiment.ts';
import { setUpCompare } from './compare-setup.ts';
import { renderComparison } from './compare-table.ts';
import { machineFlags } from './machine.ts';
import { outputFolder, writeOutput } from './output.ts';
import { budgetTokens, choosePolicies } from './policy-choices.ts';
import { renderQuality } from './quality-table.ts';
import type { Verb } from './verb.ts';

const DEFAULT_POLICIES = ['full', 'full-offload', 'streaming-llm', 'snapkv', 'quest', 'ttkv', 'pariskv'];

const flags = z.object({
  trace: z
    .string()
    .optional()
    .describe('attention trace (.safetensors); default: the shipped sample of a real model'),
  synthetic: z
    .string()
    .optional()
    .describe('generate the attention of this model instead (a catalog name, or its config.json)'),
  task: z
    .string()
    .optional()
    .describe(
      'with a generated trace: needle, multi-hop, code, kv-retrieval, dialogue or long-generation; default: their mean',
    ),
  model: z
    .string()
    .optional()
    .describe("model to time: a catalog name or a Hugging Face config.json; default: the trace's"),
  ...machineFlags,
  policies: z
    .array(z.string().min(1))
    .min(1)
    .default(DEFAULT_POLICIES)
    .describe('policies: name, name:param=value;param=value, stack(name,name), or a policy file (./mine.ts)'),
  policy: z
    .array(z.string().min(1))
    .default([])
    .describe('one more policy beside those, a name or a file (./mine.ts); repeatable'),
  set: z
    .array(z.string())
    .default([])
    .describe('policy.param=value, repeatable; value @FILE = JSON or a table of numbers'),
  budget: budgetTokens
    .optional()
    .meta({ suffix: true })
    .describe('tokens that a query head attends to, for all policies that take such a budget'),
  context: z
    .int()
    .min(1)
    .optional()
    .meta({ suffix: true })
    .describe("tokens in the cache when decoding starts; default: the trace's, or 32K"),
  steps: z.int().min(1).optional().describe("decode steps; default: the trace's up to 64, or 16"),
  batch: z.int().min(1).default(1).describe('sequences decoded together; each replays the trace'),
  dense: z
    .boolean()
    .default(true)
    .describe('leave out projections and MLP: attention, index work and transfers only'),
  layers: z
    .string()
    .default('auto')
    .describe('layers whose attention is replayed: auto (a seeded sample), all, or a list'),
  kvHeads: z.string().default('auto').describe('KV heads that are replayed: auto, all, or a list'),
  quality: z.boolean().default(false).describe('print where quality is lost, in a second table'),
  seed: z.int().min(0).default(1).describe('seed of the generator and of sampling'),
  out: outputFolder.optional().describe('folder for result.json, timeline.json (Perfetto) and report.html'),
});

/** Result, timeline and page in one folder. */
const writeRun = async (
  directory: string,
  run: CompareRun,
  { trace }: CompareExperiment,
  hasOwnCode: boolean,
): Promise<readonly string[]> => {
  const { chromeTrace } = await import('../viz/perfetto.ts');
  const { renderReport } = await import('../viz/report/render.ts');
  const { result } = run;
  const timelines = result.policies.map(({ policy }, at) => ({ policy, timeline: run.timelines[at] }));
  const replay = hasOwnCode
    ? { available: false, reason: 'a policy came from a file of its own, which the page does not carry' }
    : { available: true, ...(trace.kind === 'file' ? { needsTrace: trace.name } : {}) };
  const html = renderReport({ result, timelines, replay });
  return [
    writeOutput(directory, 'result.json', [JSON.stringify(result, null, 2), '\n']),
    writeOutput(directory, 'timeline.json', chromeTrace(timelines, { digest: result.digest })),
    writeOutput(directory, 'report.html', [html]),
  ];
};

export const verb = {
  name: 'compare',
  summary: 'replay attention under several policies: bytes across tiers, step time, memory, quality',
  flags,
  examples: [
    'kvtier compare',
    'kvtier compare --hardware a100-80-pcie --policies full,full-offload,ttkv,pariskv --batch 8',
    'kvtier compare --synthetic llama-3.1-8b --context 128K --steps 8 --no-dense',
    'kvtier compare --policies "quest,quest:tier=dram,quest:budgetTokens=512" --set quest.pageTokens=32',
    'kvtier compare --policies "full,stack(snapkv,quest),per-head(full,streaming-llm):heads=[0]"',
    'kvtier compare --budget 1024 --policies full,h2o,snapkv,quest,pariskv',
    'kvtier compare --policies snapkv,h2o,quest,kivi --quality',
    'kvtier compare --policies full,snapkv --policy ./mine.ts',
    'kvtier compare --out out/ --json',
  ],
  async run(given, context) {
    const chosen = await choosePolicies([...given.policies, ...given.policy], given.set);
    const setup = setUpCompare(given, chosen);
    const progress = context.progress('replaying attention', 1);
    const run = compare({
      experiment: setup.experiment,
      trace: setup.trace,
      extraPolicies: chosen.extra,
      notes: setup.notes,
      onProgress: (share) => progress.update(share),
    });
    progress.end();
    const files =
      given.out === undefined
        ? []
        : await writeRun(given.out, run, setup.experiment, Object.keys(chosen.extra).length > 0);
    context.printJson(run.result);
    context.print(renderComparison(run.result, setup, context.columns));
    if (given.quality) context.print(`\n${renderQuality(run.result, context.columns)}`);
    for (const file of files) context.note(`wrote ${file}`);
  },
} satisfies Verb<typeof flags>;
