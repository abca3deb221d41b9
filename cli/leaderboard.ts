/**
 * `kvtier leaderboard`: all policies at one token budget on the recorded traces that ship (or on others), as a Markdown
 * page and a picture. One command makes the page again.
 */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as z from 'zod';
import { compare, worldOf } from '../sim/decode/compare.ts';
import { SimError } from '../sim/error.ts';
import { loadProfile } from '../sim/hardware/load.ts';
import { catalog } from '../sim/policy/catalog.generated.ts';
import { createPolicy } from '../sim/policy/create-policy.ts';
import { findPolicy } from '../sim/policy/find-policy.ts';
import { packageRoot } from '../traces/package-root.ts';
import { setUpCompare } from './compare-setup.ts';
import { costs, overall, type Row, rowsOf } from './leaderboard-board.ts';
import { type Board, type LeaderboardPage, renderLeaderboard } from './leaderboard-page.ts';
import { machineFlags } from './machine.ts';
import { outputFolder, writeOutput } from './output.ts';
import { budgetTokens, type ChosenPolicies, choosePolicies } from './policy-choices.ts';
import type { Verb } from './verb.ts';

const flags = z.object({
  trace: z.array(z.string()).default([]).describe('attention traces; default: all that ship'),
  policies: z
    .array(z.string().min(1))
    .default([])
    .describe('policies, as in compare; default: all of the catalog'),
  set: z.array(z.string()).default([]).describe('policy.param=value, repeatable'),
  budget: budgetTokens
    .default(1024)
    .meta({ suffix: true })
    .describe('tokens that a query head attends to, for all policies that take such a budget'),
  ...machineFlags,
  steps: z.int().min(1).default(32).describe('decode steps'),
  batch: z
    .int()
    .min(1)
    .default(32)
    .describe('sequences decoded together, so that steps are not all launches'),
  dense: z.boolean().default(true).describe('leave out projections and MLP'),
  seed: z.int().min(0).default(1).describe('seed of sampling'),
  out: outputFolder.optional().describe('folder for leaderboard.md and leaderboard.svg'),
});
type Flags = z.infer<typeof flags>;

/** Paths of all attention traces that ship, the default sample first. */
const shippedTraces = (): readonly string[] => {
  const folder = new URL('traces/samples/', packageRoot());
  return ['', 'attention/'].flatMap((part) =>
    readdirSync(new URL(part, folder))
      .filter((name) => name.endsWith('.safetensors'))
      .sort()
      .map((name) => fileURLToPath(new URL(`${part}${name}`, folder))),
  );
};

interface Measured extends Board {
  readonly machine: string;
  readonly refused: readonly string[];
}

/** The policies that can run on a trace, and why the others cannot. */
const possible = (chosen: ChosenPolicies, given: Flags, trace: string) => {
  const refused: string[] = [];
  const { experiment, trace: opened } = setUpCompare({ ...setUp(given, trace) }, chosen);
  const world = worldOf(experiment, opened);
  const labels = experiment.policies.flatMap(({ label, name, config }) => {
    try {
      createPolicy(findPolicy(name, chosen.extra), config, world, label);
      return [label];
    } catch (error) {
      if (!(error instanceof SimError)) throw error;
      refused.push(`${error.message} (${opened.name})`);
      return [];
    }
  });
  return { refused, choices: chosen.choices.filter(({ label }) => labels.includes(label)) };
};

const setUp = (given: Flags, trace: string) => ({ ...given, trace, layers: 'auto', kvHeads: 'auto' });

const measure = (
  chosen: ChosenPolicies,
  given: Flags,
  trace: string,
  onProgress: (share: number) => void,
): Measured => {
  const { refused, choices } = possible(chosen, given, trace);
  const setup = setUpCompare(setUp(given, trace), { ...chosen, choices });
  const { result } = compare({
    experiment: setup.experiment,
    trace: setup.trace,
    extraPolicies: chosen.extra,
    notes: setup.notes,
    onProgress,
  });
  const without = choices
    .filter(({ name }) => findPolicy(name, chosen.extra).atBudget === undefined)
    .map(({ label }) => label);
  const { contextTokens, steps } = setup.experiment;
  return {
    title: `${setup.traceTitle}: ${contextTokens} tokens, ${steps} steps`,
    rows: rowsOf(result, without),
    notes: result.notes,
    digest: result.digest,
    machine: loadProfile(setup.experiment.hardware).title,
    refused,
  };
};

const COST_TITLES = {
  bytesPerStep: 'KV bytes a step',
  stepNs: 'step time',
  hbmBytes: 'KV in HBM',
} as const;

const picture = async (rows: readonly Row[], budgetTokens: number): Promise<string> => {
  const { drawLeaderboard } = await import('../viz/leaderboard/picture.ts');
  const panels = costs.map((cost) => ({
    title: `output error over ${COST_TITLES[cost]} (full = 1)`,
    points: rows.map((row) => ({
      name: row.policy,
      x: row[cost],
      y: row.outputError,
      onFront: row.fronts.includes(cost),
      best: row.best,
      atBudget: row.atBudget,
    })),
  }));
  return drawLeaderboard(panels, `Policies at ${budgetTokens} tokens: output error over three costs`);
};

/** What was asked beside the defaults. */
const commandOf = (given: Flags): string => {
  const defaults = flags.parse({});
  const asked = Object.entries(given).flatMap(([field, value]) => {
    const usual = defaults[field as keyof Flags];
    if (field === 'out' || JSON.stringify(value) === JSON.stringify(usual)) return [];
    if (field === 'dense') return ['--no-dense'];
    return [`--${field} ${Array.isArray(value) ? `"${value.join(',')}"` : value}`];
  });
  return ['kvtier leaderboard', ...asked, '--out docs'].join(' ');
};

export const verb = {
  name: 'leaderboard',
  summary: 'all policies at one token budget on recorded traces: cost against quality, Pareto fronts',
  flags,
  examples: ['kvtier leaderboard --out board', 'kvtier leaderboard --budget 256 --policies h2o,snapkv,quest'],
  async run(given, context) {
    const names = given.policies.length > 0 ? given.policies : Object.keys(catalog);
    const wanted = names.includes('full') ? names : ['full', ...names];
    const chosen = await choosePolicies(wanted, given.set);
    const traces = given.trace.length > 0 ? given.trace : shippedTraces();
    const progress = context.progress('replaying attention', traces.length);
    const boards = traces.map((trace, at) =>
      measure(chosen, given, trace, (share) => progress.update(at + share)),
    );
    progress.end();
    const page: LeaderboardPage = {
      budgetTokens: given.budget,
      setting: `Batch ${given.batch} on ${boards[0].machine}${given.dense ? '' : ', attention only'}.`,
      overall: overall(boards.map(({ rows }) => rows)),
      boards,
      refused: [...new Set(boards.flatMap(({ refused }) => refused))],
      command: commandOf(given),
    };
    const document = { format: 'kvtier.leaderboard/1', seed: given.seed, ...page };
    const text = renderLeaderboard(page);
    context.printJson(document);
    if (given.out === undefined) {
      context.print(text);
      return;
    }
    context.note(`wrote ${writeOutput(given.out, 'leaderboard.md', [text])}`);
    const svg = await picture(page.overall, given.budget);
    context.note(`wrote ${writeOutput(given.out, 'leaderboard.svg', [svg])}`);
  },
} satisfies Verb<typeof flags>;
