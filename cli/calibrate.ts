/**
 * `kvtier calibrate`: measures this machine into a hardware profile and a stack of kvtier's own kernels, refits them
 * from recorded samples, or carries a profile over to a machine of which only the datasheet is known.
 */
import { existsSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import * as z from 'zod';
import { loadStack, profileNames } from '../sim/hardware/load.ts';
import { calibrate } from '../validate/fit/calibrate.ts';
import { transfer } from '../validate/fit/carry.ts';
import type { FittedMachine } from '../validate/fit/fit-machine.ts';
import { type RestartRequest, restartApart } from '../validate/microbench/restart.ts';
import { boundsOf, microbenchNames, samplesOf, sitesOf } from '../validate/microbench/run.ts';
import type { RestartTimes } from '../validate/microbench/visits.ts';
import { readSamples, type Samples, writeSamples } from '../validate/samples.ts';
import { namedProfile } from './machine.ts';
import { openBackend } from './open-backend.ts';
import { outputFile, writeJson, writeOutput } from './output.ts';
import { renderTable } from './table.ts';
import { UsageError, type Verb, type VerbContext } from './verb.ts';

const CALIBRATION_FORMAT = 'kvtier.calibration/1';
const BASE_STACK = 'kvtier-kernels';
/** Of a processor more would take longer to touch than to measure. */
const MOST_BYTES = { cuda: 2 ** 33, cpu: 2 ** 30, reference: 2 ** 30 };

const flags = z.object({
  backend: z
    .enum(['cuda', 'cpu', 'reference'])
    .optional()
    .describe('what to measure; default: cuda where there is a GPU, else cpu'),
  out: outputFile
    .optional()
    .describe('profile to write (.json); the stack of the kernels goes beside it (.stack.json)'),
  base: z
    .string()
    .optional()
    .describe(
      'profile of numbers that nothing measures; default: the one named like the device, else h100-sxm',
    ),
  name: z.string().optional().describe('name of the profile; default: the name of --out, or of the device'),
  restarts: z.int().min(1).max(20).default(3).describe('processes that measure every site once'),
  timeLimit: z
    .number()
    .positive()
    .default(240)
    .describe('seconds that the restarts should take together: sites are repeated less where they would not'),
  only: z
    .array(z.enum(microbenchNames))
    .optional()
    .describe('microbenchmarks to run; default: all that the backend can'),
  memory: z
    .int()
    .min(2 ** 24)
    .optional()
    .meta({ suffix: true })
    .describe(
      "bytes of the GPU's memory, and of the host's, that may be used; default: 8G, of a processor 1G",
    ),
  samples: outputFile.optional().describe('file to keep the raw samples in (.json.gz)'),
  from: z.string().optional().describe('fit recorded samples instead of measuring'),
  fit: z.boolean().default(true).describe('measure only, and fit the samples later'),
  intervals: z.int().min(0).max(1000).default(20).describe('resampled fits for the 95 % intervals'),
  transfer: z
    .string()
    .optional()
    .describe('profile whose utilisations are carried over to the datasheet of --to'),
  to: z.string().optional().describe('with --transfer: the machine whose datasheet is taken'),
  seed: z.int().min(0).default(1).describe('order of the measurements'),
});

type Flags = z.infer<typeof flags>;

const FALLBACK_BASE = 'h100-sxm';

/** The catalog's profile that is named like a device ("NVIDIA H200" and h200-sxm), the nearest in memory if several. */
export const baseFor = (device: string): string => {
  const words = device.toLowerCase().split(/[^a-z0-9]+/);
  const named = profileNames.filter((name) => words.includes(name.split('-')[0]));
  return (
    named.find((name) => name.split('-').every((part) => words.includes(part))) ??
    named.find((name) => name.endsWith('-sxm')) ??
    named[0] ??
    FALLBACK_BASE
  );
};

const slug = (text: string): string =>
  text
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-|-$/g, '');

const measure = async (given: Flags, context: VerbContext): Promise<Samples> => {
  const opened = await openBackend(given.backend, context);
  const { memory = MOST_BYTES[opened.name] } = given;
  const most = { hbmBytes: memory, dramBytes: memory };
  const { sites, skipped } = sitesOf(boundsOf(opened, most), given.only);
  const machine = { name: opened.name, device: opened.device };
  opened.close();
  for (const line of skipped) context.note(`skipped ${line}`);
  if (sites.length === 0) throw new UsageError('--only: no microbenchmark is left to run');
  context.note(
    `measuring ${sites.length} sites on ${machine.device.name} (${machine.name}), ${given.restarts} restarts`,
  );
  const date = new Date().toISOString().slice(0, 10);
  const restarts: RestartTimes[] = [];
  for (let restart = 0; restart < given.restarts; restart++) {
    const progress = context.progress(`restart ${restart + 1} of ${given.restarts}`, 1);
    const request: RestartRequest = {
      backend: machine.name,
      seed: given.seed + restart,
      most,
      limitMs: (1000 * given.timeLimit) / given.restarts,
      ...(given.only === undefined ? {} : { only: given.only }),
    };
    restarts.push(await restartApart(request, (share) => progress.update(share)));
    progress.end();
    // What ended is kept, whatever happens to the next one.
    if (given.samples !== undefined) writeSamples(given.samples, samplesOf(machine, sites, restarts, date));
  }
  return samplesOf(machine, sites, restarts, date);
};

const percent = (value: number): string => `${(100 * value).toFixed(1)} %`;

const show = ({ laws, noise, heldOut, hardware }: FittedMachine, columns: number): string => {
  const rows = laws.map(({ law, fit, heldOut }) => {
    const errors = heldOut ?? fit;
    return [
      law,
      String(fit.n),
      heldOut === null ? '–' : String(heldOut.n),
      percent(errors.mape),
      percent(errors.medianApe),
      percent(errors.p95Ape),
      percent(errors.bias),
    ];
  });
  return [
    `${hardware.title}: errors on sites left out of the fit`,
    '',
    renderTable(['law', 'fitted on', 'held out', 'mean', 'median', 'P95', 'bias'], rows, {
      columns,
      right: [1, 2, 3, 4, 5, 6],
    }),
    '',
    ...(heldOut === null
      ? []
      : [`all sites left out: ${percent(heldOut.mape)} mean, ${percent(heldOut.p95Ape)} P95`]),
    noise === null
      ? 'noise floor: not known with a single restart'
      : `noise floor: ${percent(noise.mape)} mean, ${percent(noise.p95Ape)} P95 (one restart predicted from another)`,
  ].join('\n');
};

const writeProfile = (out: string, profile: object, context: VerbContext): void => {
  context.note(`wrote ${writeOutput(dirname(out), basename(out), [writeJson(profile)])}`);
};

const carryOver = (given: Flags, context: VerbContext): void => {
  const { transfer: from, to } = given;
  if (from === undefined || to === undefined)
    throw new UsageError('--transfer and --to: expected both, as in --transfer h100-measured --to h200-sxm');
  const target = namedProfile(to, 'to');
  const source = namedProfile(from, 'transfer');
  const profile = transfer(source, target, loadStack(), given.name ?? `${target.name}-from-${source.name}`);
  if (given.out !== undefined) writeProfile(given.out, profile, context);
  context.printJson({
    format: CALIBRATION_FORMAT,
    kind: 'transfer',
    experiment: { transfer: from, to },
    seed: given.seed,
    profile,
  });
  context.print(`${profile.name}: datasheet of ${target.name}, utilisation of ${source.name}`);
};

export const verb = {
  name: 'calibrate',
  summary: 'measures this machine into a hardware profile, with residuals',
  flags,
  examples: [
    'kvtier calibrate --backend cpu --out mine.json',
    'kvtier calibrate --backend cuda --out my-gpu.json --samples my-gpu.samples.json.gz',
    'kvtier calibrate --from my-gpu.samples.json.gz --out my-gpu.json',
    'kvtier calibrate --transfer my-gpu.json --to h200-sxm --out h200-guess.json',
  ],
  async run(given, context) {
    if (given.transfer !== undefined || given.to !== undefined) {
      carryOver(given, context);
      return;
    }
    if (given.from !== undefined && !existsSync(given.from))
      throw new UsageError(
        `--from ${given.from}: no such file; \`kvtier calibrate --samples FILE\` writes one`,
      );
    if (!given.fit && (given.samples === undefined || given.from !== undefined))
      throw new UsageError('--no-fit: expected --samples, to measure into, and no --from');
    const samples = given.from === undefined ? await measure(given, context) : readSamples(given.from);
    if (!given.fit) {
      const { machine, sites } = samples;
      const experiment = { backend: machine.backend, restarts: given.restarts };
      context.printJson({
        format: CALIBRATION_FORMAT,
        kind: 'samples',
        experiment,
        seed: given.seed,
        sites: sites.length,
      });
      context.print(`${sites.length} sites of ${machine.name} in ${given.samples}`);
      return;
    }
    if (given.from !== undefined && given.samples !== undefined) writeSamples(given.samples, samples);
    const baseName = given.base ?? baseFor(samples.machine.name);
    const base = { hardware: namedProfile(baseName, 'base'), stack: loadStack(BASE_STACK) };
    const name =
      given.name ?? (given.out === undefined ? slug(samples.machine.name) : basename(given.out, '.json'));
    const progress = context.progress('fitting', Math.max(1, given.intervals));
    const names = { name, title: samples.machine.name, stack: `${name}-kernels` };
    const fitted = await calibrate(samples, base, names, given.intervals, (fits) => progress.update(fits));
    progress.end();
    if (given.out !== undefined) {
      writeProfile(given.out, fitted.hardware, context);
      writeProfile(given.out.replace(/(\.json)?$/, '.stack.json'), fitted.stack, context);
    }
    const { hardware, stack, laws, noise } = fitted;
    const { backend } = samples.machine;
    context.printJson({
      format: CALIBRATION_FORMAT,
      kind: 'calibrate',
      experiment: { backend, base: baseName, restarts: given.restarts },
      seed: given.seed,
      profile: hardware,
      stack,
      laws,
      noise,
    });
    context.print(show(fitted, context.columns));
  },
} satisfies Verb<typeof flags>;
