/**
 * `kvtier place`: FlexGen's linear program for a machine and a model: which shares of weights, KV and activations belong
 * in HBM, in DRAM and on NVMe, and in how large batches, for the most tokens per second (arXiv 2303.06865, section 4.3).
 * What it finds for the cache is what policy flexgen takes.
 */
import * as z from 'zod';
import { flexgenPlacement } from '../sim/plan/flexgen-machine.ts';
import type { Placement, Shares } from '../sim/plan/flexgen-placement.ts';
import { RESULT_FORMAT } from '../sim/result.ts';
import { formatNs, formatRatio } from './format.ts';
import { machineFlags, namedMachine } from './machine.ts';
import { modelOfFlag } from './model-flag.ts';
import { renderTable } from './table.ts';
import { UsageError, type Verb } from './verb.ts';

const count = z.int().min(1).max(1e9);
const shares = z.array(z.number().min(0).max(1)).optional();

const flags = z.object({
  model: z.string().default('llama-3.1-70b').describe('model: a catalog name or a config.json'),
  ...machineFlags,
  context: count.default(512).meta({ suffix: true }).describe('prompt tokens of a sequence'),
  generated: count.default(32).meta({ suffix: true }).describe('tokens that each sequence generates'),
  attendAt: z
    .enum(['cpu', 'gpu'])
    .default('cpu')
    .describe('where KV outside HBM is attended: by the CPU, or by the GPU after it was loaded'),
  fill: z.number().positive().max(1).default(0.8).describe('share of each tier that may be filled'),
  elementBytes: z.number().positive().max(8).default(2).describe('bytes of a KV or activation element'),
  weights: shares.describe('given shares in HBM, DRAM and NVMe: 0.2,0.8,0; default: searched'),
  cache: shares.describe('the same of the KV cache; default: searched'),
  activations: shares.describe('the same of activations; default: searched'),
  batch: count.optional().describe('sequences that go through a layer together; default: searched'),
  batches: count.optional().describe('such batches before the next layer; default: searched'),
  mostSequences: count
    .optional()
    .meta({ suffix: true })
    .describe('batch times batches at most: a step takes longer with more; default: no limit'),
  seed: z.int().min(0).default(1).describe('recorded in the result; a placement uses no random numbers'),
});
type Flags = z.infer<typeof flags>;

const KINDS = ['weights', 'cache', 'activations'] as const;

const given = (flags: Flags, kind: (typeof KINDS)[number]): Shares | undefined => {
  const list = flags[kind];
  if (list === undefined) return undefined;
  const [hbm = 0, dram = 0, nvme = 0] = list;
  if (list.length !== 3 || Math.abs(hbm + dram + nvme - 1) > 1e-9)
    throw new UsageError(
      `--${kind} ${list.join(',')}: expected three shares (HBM, DRAM, NVMe) that add up to 1`,
    );
  return { hbm, dram, nvme };
};

const blockOf = ({ batch, batches, mostSequences }: Flags) => {
  if (batch === undefined && batches === undefined) return undefined;
  if (batch === undefined) throw new UsageError('--batches: expected --batch with it');
  if (mostSequences !== undefined && batch * (batches ?? 1) > mostSequences)
    throw new UsageError(`--batch ${batch}: expected at most --most-sequences ${mostSequences} in all`);
  return { batch, batches: batches ?? 1 };
};

const rounded = (share: number): number => Math.round(share * 1e4) / 1e4;

/** The flexgen policy that keeps the cache so. */
const policyOf = ({ cache }: Placement, attendAt: 'cpu' | 'gpu') => ({
  name: 'flexgen',
  config: { hbmShare: rounded(cache.hbm), nvmeShare: rounded(cache.nvme), attendAt },
});

const show = (found: Placement, flags: Flags, machine: string, columns: number): string => {
  const { batch, batches, promptNs, stepNs, tokensPerS } = found;
  const { context, generated, attendAt, model, hardware } = flags;
  const { config } = policyOf(found, attendAt);
  const table = renderTable(
    ['', 'HBM', 'DRAM', 'NVMe'],
    KINDS.map((kind) => {
      const { hbm, dram, nvme } = found[kind];
      return [kind === 'cache' ? 'KV cache' : kind, ...[hbm, dram, nvme].map(formatRatio)];
    }),
    { columns, right: [1, 2, 3] },
  );
  const inHbm = found.weights.hbm > 1 - 1e-6;
  const flexgen = `flexgen:hbmShare=${config.hbmShare};nvmeShare=${config.nvmeShare};attendAt=${attendAt}`;
  return [
    `${model} on ${machine}: ${context} prompt tokens, ${generated} generated, KV outside HBM attended by the ${attendAt.toUpperCase()}`,
    `${batches} x ${batch} sequences: ${tokensPerS.toPrecision(3)} tokens/s; a layer of them takes ${formatNs(promptNs)} with the prompt, ${formatNs(stepNs)} a step`,
    '',
    table,
    '',
    inHbm
      ? `Beside other policies: kvtier compare --synthetic llama-3.1-8b --model ${model} --hardware ${hardware} --context ${context} --batch ${batch * batches} --policies 'full-offload,${flexgen}'`
      : 'kvtier compare keeps weights in HBM, so this placement has no run there; --weights 1,0,0 asks for one that has.',
  ].join('\n');
};

export const verb = {
  name: 'place',
  summary: "where weights, KV and activations belong on a machine: FlexGen's linear program",
  flags,
  examples: [
    'kvtier place --model llama-3.1-70b --hardware rtx-4090 --most-sequences 256',
    'kvtier place --model llama-3.1-8b --weights 1,0,0 --context 32K --attend-at gpu',
    'kvtier place --model qwen2.5-32b --hardware t4 --batch 48 --batches 3 --json',
  ],
  async run(flags, context) {
    const { model, hardware, stack, generated, attendAt, fill, elementBytes, mostSequences, seed } = flags;
    const { source, profile, stackName } = namedMachine(hardware, stack);
    const [weights, cache, activations] = KINDS.map((kind) => given(flags, kind));
    const block = blockOf(flags);
    const request = {
      ...source,
      model: modelOfFlag(model, 'model').source,
      promptTokens: flags.context,
      generatedTokens: generated,
      attendAt,
      fill,
      elementBytes,
      fixed: { weights, cache, activations },
      mostSequences,
      block,
    };
    const best = flexgenPlacement(request as Parameters<typeof flexgenPlacement>[0]);
    if (best === null)
      throw new UsageError(
        `no placement fits ${hardware}: its tiers hold too little of ${model} at --fill ${fill}; fewer tokens, a smaller --batch or other shares may`,
      );
    context.printJson({
      format: RESULT_FORMAT,
      kind: 'place',
      experiment: request,
      seed,
      best,
      policy: policyOf(best, attendAt),
    });
    context.print(show(best, flags, `${profile.name} (${stackName})`, context.columns));
  },
} satisfies Verb<typeof flags>;
