/**
 * `kvtier mrc`: which eviction rule, and how many blocks, for the prefixes of a request trace? Hit ratios of a single
 * tier at several capacities, without time.
 */
import { basename } from 'node:path';
import * as z from 'zod';
import { kvBytesPerToken } from '../sim/model/ledger.ts';
import { loadEviction } from '../sim/policy/eviction/evictions.ts';
import { type MrcRun, missRatioCurves } from '../sim/policy/eviction/mrc.ts';
import { RESULT_FORMAT } from '../sim/result.ts';
import { readRequestFile } from '../traces/requests/node-file.ts';
import type { RequestTrace } from '../traces/requests/request-trace.ts';
import { conversationSample } from '../traces/requests/sample.ts';
import { parseNumber } from './flags.ts';
import { formatBytes, formatCount, formatRatio } from './format.ts';
import { modelOfFlag } from './model-flag.ts';
import { renderCurves } from './mrc-chart.ts';
import { outputFolder, writeOutput } from './output.ts';
import { renderTable } from './table.ts';
import { UsageError, type Verb, type VerbContext } from './verb.ts';

/** KV as most engines keep it: bf16. */
const KV_ELEMENT_BYTES = 2;
/** How far below the number of different blocks the default capacities begin. */
const DEFAULT_SPAN = 400;

const flags = z.object({
  trace: z
    .string()
    .optional()
    .describe('request trace, plain or gzip; default: the shipped Mooncake conversation trace'),
  eviction: z
    .array(z.string().min(1))
    .min(1)
    .default(['lru', 'fifo', 's3fifo', 'sieve', 'arc', 'belady'])
    .describe('eviction rules (kvtier list evictions)'),
  capacities: z
    .array(z.string().min(1))
    .min(1)
    .optional()
    .describe('blocks (1000, 64K), or bytes with --model (80GB); default: 1, 2, 5, 10 … up to all blocks'),
  hits: z
    .enum(['prefix', 'block'])
    .default('prefix')
    .describe(
      'count the leading resident blocks of a request (what a prefix cache reuses), or every block by itself',
    ),
  model: z
    .string()
    .optional()
    .describe('model whose KV (bf16) gives a block its bytes: a catalog name or a config.json'),
  set: z.array(z.string()).default([]).describe('parameter of a rule, rule.param=value, repeatable'),
  seed: z.int().min(0).default(1).describe('recorded in the result; replays use no random numbers'),
  out: outputFolder.optional().describe('folder for result.json'),
});
type Flags = z.infer<typeof flags>;

/** 1, 2, 5, 10, 20, 50 … from about a four-hundredth of the different blocks, and all of them. */
export const defaultCapacities = (uniqueBlocks: number): readonly number[] => {
  const capacities: number[] = [];
  for (let decade = 1; decade < uniqueBlocks; decade *= 10) {
    for (const factor of [1, 2, 5]) {
      const capacity = decade * factor;
      if (capacity < uniqueBlocks && capacity * DEFAULT_SPAN >= uniqueBlocks) capacities.push(capacity);
    }
  }
  return [...capacities, uniqueBlocks];
};

type Model = ReturnType<typeof modelOfFlag>;

/** Bytes of one block of the trace under the model; undefined without a model. */
const blockBytesOf = (model: Model | undefined, trace: RequestTrace): number | undefined =>
  model === undefined ? undefined : kvBytesPerToken(model.shape, KV_ELEMENT_BYTES) * trace.blockTokens;

const slidingNote = (model: Model | undefined): readonly string[] =>
  model?.shape.layerKinds.includes('sliding') === true
    ? [`blocks of ${model.shape.name} are counted with all layers' KV; sliding layers may keep less`]
    : [];

/** `1000` and `64K` are blocks; what ends in B is bytes. */
const parseCapacity = (text: string, blockBytes: number | undefined): number => {
  const value = parseNumber(text, 'capacities', true);
  if (value < 0) throw new UsageError(`--capacities: expected blocks >= 0, got '${text}'`);
  if (/b$/i.test(text.trim())) {
    if (blockBytes === undefined) {
      throw new UsageError(`--capacities ${text}: bytes need --model, which says how large a block is`);
    }
    return Math.floor(value / blockBytes);
  }
  if (!Number.isSafeInteger(value))
    throw new UsageError(`--capacities: expected whole blocks, got '${text}'`);
  return value;
};

/** `rule.param=value` entries, by rule. */
const parseSettings = (
  entries: readonly string[],
  rules: readonly string[],
): Readonly<Record<string, Record<string, unknown>>> => {
  const configs: Record<string, Record<string, unknown>> = {};
  for (const entry of entries) {
    const parts = /^([^.=]+)\.([^=]+)=(.*)$/.exec(entry);
    if (parts === null) throw new UsageError(`--set: expected rule.param=value, got '${entry}'`);
    const { kind } = loadEviction(parts[1].trim());
    if (!rules.includes(kind))
      throw new UsageError(`--set ${entry}: ${kind} is not among --eviction ${rules.join(',')}`);
    const value = Number(parts[3]);
    configs[kind] = { ...configs[kind], [parts[2].trim()]: Number.isNaN(value) ? parts[3] : value };
  }
  return configs;
};

const readTrace = async (path: string | undefined, context: VerbContext): Promise<RequestTrace> => {
  const file = path ?? conversationSample();
  const progress = context.progress(`reading ${basename(file)}`, 1);
  try {
    const trace = await readRequestFile(file, { onProgress: (read, size) => progress.update(read / size) });
    if (trace.uniqueBlocks === 0) {
      throw new UsageError(`${file}: expected prefix blocks (hash_ids) in a request trace, found none`);
    }
    return trace;
  } finally {
    progress.end();
  }
};

const resultOf = (given: Flags, model: Model | undefined, trace: RequestTrace, run: MrcRun) => {
  const accesses = trace.blockIds.length;
  return {
    format: RESULT_FORMAT,
    kind: 'mrc' as const,
    experiment: {
      trace: basename(trace.name),
      blocksDigest: run.blocksDigest,
      hits: given.hits,
      evictions: run.curves.map(({ eviction, config }) => ({ eviction, config })),
      capacities: run.curves[0].points.map((point) => point.capacityBlocks),
      model: model?.source ?? null,
    },
    seed: given.seed,
    trace: {
      format: trace.format,
      requests: trace.arrivalNs.length,
      accesses,
      uniqueBlocks: trace.uniqueBlocks,
      blockTokens: trace.blockTokens,
      blockBytes: blockBytesOf(model, trace) ?? null,
      infiniteHits: run.infiniteHits,
      infiniteHitRatio: run.infiniteHits / accesses,
    },
    curves: run.curves,
    digest: run.digest,
    notes: [
      given.hits === 'prefix'
        ? 'hits: leading blocks of a request that are resident when it arrives; then all its blocks are touched or inserted'
        : 'hits: every block by itself, in the order of the prompt',
      ...slidingNote(model),
      ...trace.notes,
    ],
  };
};

const show = (result: ReturnType<typeof resultOf>, columns: number): string => {
  const { trace, curves } = result;
  const { blockBytes } = trace;
  const size = (blocks: number): readonly string[] =>
    blockBytes === null ? [] : [formatBytes(blocks * blockBytes)];
  const header = [
    'blocks',
    ...(blockBytes === null ? [] : ['size']),
    ...curves.map((curve) => curve.eviction),
  ];
  const rows = curves[0].points.map(({ capacityBlocks }, at) => [
    String(capacityBlocks),
    ...size(capacityBlocks),
    ...curves.map(({ points }) => formatRatio(points[at].hitRatio)),
  ]);
  rows.push([
    '∞',
    ...(blockBytes === null ? [] : ['']),
    ...curves.map(() => formatRatio(trace.infiniteHitRatio)),
  ]);
  const counted = result.experiment.hits === 'prefix' ? 'Prefix hit ratio' : 'Block hit ratio';
  return [
    `${result.experiment.trace}: ${formatCount(trace.requests)} requests, ${formatCount(trace.accesses)} accesses to ` +
      `${formatCount(trace.uniqueBlocks)} blocks of ${trace.blockTokens} tokens`,
    `${counted} of one tier by capacity and eviction rule:`,
    '',
    renderTable(header, rows, { columns, right: header.map((_, at) => at) }),
    '',
    renderCurves(curves, columns),
  ]
    .join('\n')
    .trimEnd();
};

export const verb = {
  name: 'mrc',
  summary: "miss-ratio curves of a request trace's blocks",
  positionals: ['trace'],
  flags,
  examples: [
    'kvtier mrc',
    'kvtier mrc --eviction lru,s3fifo --capacities 1000,10000,50000 --json',
    'kvtier mrc --capacities 100GB,1TB,10TB --model llama-3.1-70b',
    'kvtier mrc --eviction s3fifo --set s3fifo.smallRatio=0.2 --hits block',
  ],
  async run(given, context) {
    const rules = given.eviction.map((name) => loadEviction(name).kind);
    const configs = parseSettings(given.set, rules);
    const model = given.model === undefined ? undefined : modelOfFlag(given.model, 'model');
    const trace = await readTrace(given.trace, context);
    const blockBytes = blockBytesOf(model, trace);
    const capacities =
      given.capacities?.map((text) => parseCapacity(text, blockBytes)) ??
      defaultCapacities(trace.uniqueBlocks);
    const progress = context.progress('replaying', rules.length * capacities.length);
    const run = missRatioCurves({
      requests: trace,
      evictions: rules,
      capacities,
      counting: given.hits,
      configs,
      onProgress: (points) => progress.update(points),
    });
    progress.end();
    const result = resultOf(given, model, trace, run);
    if (given.out !== undefined) {
      context.note(`wrote ${writeOutput(given.out, 'result.json', [JSON.stringify(result, null, 2), '\n'])}`);
    }
    context.printJson(result);
    context.print(show(result, context.columns));
    for (const note of trace.notes) context.note(`${basename(trace.name)}: ${note}`);
  },
} satisfies Verb<typeof flags>;
