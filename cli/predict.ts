/**
 * `kvtier predict`: the time of one operation on a machine, with an interval and whether it is within what was
 * calibrated. Flags that the operation has no use for are refused, so that a typing error is never priced.
 */
import * as z from 'zod';
import { RESULT_FORMAT } from '../sim/result.ts';
import { resolveMachine } from '../sim/timing/cost.ts';
import { type Prediction, type PredictRequest, predict } from '../sim/timing/predict.ts';
import { kebabCase } from './flags.ts';
import { formatBytes, formatCount, formatNs } from './format.ts';
import { machineFlags, namedMachine } from './machine.ts';
import { UsageError, type Verb } from './verb.ts';

const OPS = ['copy', 'gather', 'attend', 'prefill-attention', 'gemm', 'select'] as const;
type Op = (typeof OPS)[number];

/** Sizes stay below 2^53 in every product that the model forms. */
const count = z.int().min(1).max(1e12).optional().meta({ suffix: true });

const flags = z.object({
  op: z.enum(OPS).describe('what to time'),
  ...machineFlags,
  direction: z.enum(['h2d', 'd2h', 'both']).optional().describe('copy: which way; both = at the same time'),
  bytes: count.describe('copy: bytes of one copy'),
  count: count.describe('copy: how many copies; default 1'),
  mode: z
    .enum(['dma', 'dma-batch', 'pageable', 'uva', 'staged'])
    .optional()
    .describe('copy: dma, dma-batch or pageable; gather: uva (the kernel reads) or staged (the CPU gathers)'),
  tier: z.enum(['hbm', 'dram']).optional().describe('gather: where the rows lie'),
  rowBytes: count.describe('gather: contiguous bytes of a row'),
  rows: count.describe('gather: rows; select: independent selections'),
  regionBytes: count.describe('gather from dram: bytes that the rows are scattered over; default: not known'),
  batch: count.describe('attend, prefill-attention: sequences; default 1'),
  context: count.describe('attend, prefill-attention: tokens of a sequence'),
  heads: count.describe('attend, prefill-attention: query heads'),
  kvHeads: count.describe('attend, prefill-attention: KV heads; default: as many as query heads'),
  headDim: count.describe('attend, prefill-attention: width of a head'),
  m: count.describe('gemm: rows of the product'),
  n: count.describe('gemm: columns of the product'),
  k: count.describe('gemm: inner dimension; select: how many are selected'),
  dtype: z
    .enum(['bf16', 'fp16', 'fp8', 'int8', 'fp32'])
    .optional()
    .describe('attend, gemm: element type; default bf16'),
  of: count.describe('select: candidates of each selection'),
  seed: z.int().min(0).default(1).describe('recorded in the result; predictions use no random numbers'),
});

type Flags = z.infer<typeof flags>;
type Field = Exclude<keyof Flags, 'op' | 'hardware' | 'stack' | 'seed'>;

/** What each operation must and may be asked with. */
const USES: Readonly<
  Record<Op, { readonly required: readonly Field[]; readonly optional: readonly Field[] }>
> = {
  copy: { required: ['bytes'], optional: ['direction', 'count', 'mode'] },
  gather: { required: ['tier', 'rowBytes', 'rows'], optional: ['mode', 'regionBytes'] },
  attend: { required: ['context', 'heads', 'headDim'], optional: ['batch', 'kvHeads', 'dtype'] },
  'prefill-attention': { required: ['context', 'heads', 'headDim'], optional: ['batch', 'kvHeads'] },
  gemm: { required: ['m', 'n', 'k'], optional: ['dtype'] },
  select: { required: ['rows', 'of', 'k'], optional: [] },
};

const COMMON: ReadonlySet<string> = new Set(['op', 'hardware', 'stack', 'seed']);

const checkUses = (given: Flags): void => {
  const { required, optional } = USES[given.op];
  for (const field of required) {
    if (given[field] === undefined)
      throw new UsageError(`--${kebabCase(field)}: is required with --op ${given.op}`);
  }
  const allowed: readonly string[] = [...required, ...optional];
  for (const [field, value] of Object.entries(given)) {
    if (value === undefined || COMMON.has(field) || allowed.includes(field)) continue;
    const list = allowed.map((name) => `--${kebabCase(name)}`).join(', ');
    throw new UsageError(`--${kebabCase(field)}: has no meaning with --op ${given.op}, which takes ${list}`);
  }
};

/** A required number: checkUses has seen that it is there. */
const of = (
  given: Flags,
  field: 'bytes' | 'rowBytes' | 'rows' | 'context' | 'heads' | 'headDim' | 'm' | 'n' | 'k' | 'of',
): number => {
  const value = given[field];
  if (value === undefined) throw new UsageError(`--${kebabCase(field)}: is required with --op ${given.op}`);
  return value;
};

const oneOf = <T extends string>(value: string | undefined, choices: readonly T[], op: Op): T => {
  const found = choices.find((choice) => choice === (value ?? choices[0]));
  if (found === undefined)
    throw new UsageError(`--mode ${value}: expected ${choices.join(', ')} with --op ${op}`);
  return found;
};

const headsOf = (given: Flags) => {
  const heads = of(given, 'heads');
  const kvHeads = given.kvHeads ?? heads;
  if (heads % kvHeads !== 0)
    throw new UsageError(`--kv-heads ${kvHeads}: expected a divisor of --heads ${heads}`);
  return {
    batch: given.batch ?? 1,
    context: of(given, 'context'),
    heads,
    kvHeads,
    headDim: of(given, 'headDim'),
  };
};

/** The operation that the flags describe. Throws UsageError naming the flag. */
const requestOf = (given: Flags): PredictRequest => {
  checkUses(given);
  const { op } = given;
  switch (op) {
    case 'copy':
      return {
        op,
        direction: given.direction ?? 'h2d',
        bytes: of(given, 'bytes'),
        count: given.count ?? 1,
        mode: oneOf(given.mode, ['dma', 'dma-batch', 'pageable'], op),
      };
    case 'gather': {
      const tier = given.tier ?? 'hbm';
      if (tier === 'hbm' && given.mode !== undefined)
        throw new UsageError(`--mode ${given.mode}: has a meaning only with --tier dram`);
      const mode = oneOf(given.mode, ['uva', 'staged'], op);
      const regionBytes = given.regionBytes ?? null;
      return { op, tier, mode, rows: of(given, 'rows'), rowBytes: of(given, 'rowBytes'), regionBytes };
    }
    case 'attend':
      return { op, ...headsOf(given), dtype: given.dtype ?? 'bf16' };
    case 'prefill-attention':
      return { op, ...headsOf(given) };
    case 'gemm':
      return { op, m: of(given, 'm'), n: of(given, 'n'), k: of(given, 'k'), dtype: given.dtype ?? 'bf16' };
    case 'select': {
      const [rows, candidates, k] = [of(given, 'rows'), of(given, 'of'), of(given, 'k')];
      if (k > candidates) throw new UsageError(`--k ${k}: expected at most --of ${candidates}`);
      return { op, rows, of: candidates, k };
    }
    default: {
      const never: never = op;
      return never;
    }
  }
};

const show = (request: PredictRequest, machine: string, result: Prediction): string => {
  const [lo, hi] = result.intervalNs;
  const rate = [
    ...(result.bytesPerNs === null ? [] : [`${formatBytes(result.bytesPerNs * 1e9)}/s`]),
    ...(result.tflops === null ? [] : [`${formatCount(result.tflops * 1e12)}FLOP/s`]),
  ].join(', ');
  return [
    `${request.op} on ${machine}: ${formatNs(result.timeNs)}  (${formatNs(lo)} to ${formatNs(hi)}, ${result.domain})`,
    `${formatNs(result.fixedNs)} of it before anything flows; bound by ${result.boundBy}; ${rate}`,
  ].join('\n');
};

export const verb = {
  name: 'predict',
  summary: 'time of one operation on a machine, with an interval',
  flags,
  examples: [
    'kvtier predict --op copy --direction h2d --bytes 64M',
    'kvtier predict --op gather --tier dram --mode uva --row-bytes 256 --rows 16K --hardware gh200',
    'kvtier predict --op attend --batch 8 --context 128K --heads 32 --kv-heads 8 --head-dim 128',
    'kvtier predict --op gemm --m 1 --n 28672 --k 4096 --dtype fp8 --json',
  ],
  async run(given, context) {
    const request = requestOf(given);
    const { source, profile, stack } = namedMachine(given.hardware, given.stack);
    const machine = resolveMachine(profile, stack);
    const result = predict(request, machine);
    context.printJson({
      format: RESULT_FORMAT,
      kind: 'predict',
      experiment: {
        ...request,
        hardware: typeof source.hardware === 'string' ? machine.name : source.hardware,
        stack: typeof source.stack === 'string' ? machine.stack : source.stack,
      },
      seed: given.seed,
      ...result,
    });
    context.print(show(request, `${machine.name} (${machine.stack})`, result));
  },
} satisfies Verb<typeof flags>;
