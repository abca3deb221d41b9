/** Counted steps against the programs, and against what the last cache leaves of them; written beside the other evidence. */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { loadProfile } from '../../sim/hardware/load.ts';
import { bindStep } from '../execute/bind.ts';
import { countersFile, type Plan, profileFile } from '../record/plan.ts';
import { type CountedCase, type Counts, readCounters } from './counters.ts';
import { stepTraffic } from './step-traffic.ts';

const pairSchema = z.object({ readBytes: z.number(), writtenBytes: z.number() });

const judgedSchema = z.object({
  machine: z.string(),
  policy: z.string(),
  model: z.string(),
  context: z.int(),
  batch: z.int(),
  layers: z.int(),
  hbm: z.object({
    /** What the program says that kernels and copy engines read and write. */
    programBytes: z.number(),
    /** What its calls ask for, with what one leaves for the next. */
    asked: pairSchema,
    predicted: pairSchema,
    counted: pairSchema,
    /** Predicted against counted, read and written together. */
    errorRatio: z.number(),
  }),
  /** Over the link, without headers. */
  link: z.object({
    programIn: z.number(),
    countedIn: z.number(),
    programOut: z.number(),
    countedOut: z.number(),
  }),
  /** What kernels read of host memory. */
  host: z.object({ asked: z.number(), counted: z.number() }),
});

export type JudgedCounts = z.infer<typeof judgedSchema>;

export const JUDGED_COUNTERS_FILE = 'counters.json';
const SECTOR_BYTES = 32;
/**
 * Packets by the counters themselves (docs/validation.md): headers of completions and of writes, the latter also of requests
 * to read, and the payload of a packet of a kernel and of a copy engine.
 */
const COMPLETION_HEADER_BYTES = 12;
const WRITE_HEADER_BYTES = 16;
const KERNEL_PACKET_BYTES = 128;
const ENGINE_PACKET_BYTES = 256;

const meanOf = (runs: readonly Counts[], name: keyof Counts): number =>
  runs.reduce((sum, counts) => sum + counts[name], 0) / runs.length;

export interface CacheShape {
  readonly l2Bytes: number;
  readonly units: number;
}

/** The caches of a machine whose profile stands among the evidence. */
export const cacheOf = (folder: string, machine: string): CacheShape => {
  const file = profileFile(machine);
  const { accelerator } = loadProfile(JSON.parse(readFileSync(join(folder, file), 'utf8')) as object, file);
  return { l2Bytes: accelerator.l2.capacityBytes.value, units: accelerator.sms.value };
};

export const judgeCase = (
  machine: string,
  { prepared: { workload }, runs }: CountedCase,
  { l2Bytes, units }: CacheShape,
): JudgedCounts => {
  const step = bindStep(workload);
  const { bytes } = step.binding;
  const { asked, hostReadBytes, memory } = stepTraffic(step, l2Bytes, units);
  const counted = {
    readBytes: meanOf(runs, 'hbmReadBytes'),
    writtenBytes: meanOf(runs, 'hbmWrittenBytes'),
  };
  const byKernels = hostReadBytes / KERNEL_PACKET_BYTES;
  const byEngines = Math.max(0, bytes.h2d - hostReadBytes) / ENGINE_PACKET_BYTES;
  const sent = bytes.d2h / ENGINE_PACKET_BYTES;
  return {
    machine,
    policy: workload.policy,
    model: workload.dimensions.model,
    context: workload.context,
    batch: workload.batch,
    layers: workload.program.layers.length,
    hbm: {
      programBytes: bytes.hbm + bytes.h2d + bytes.d2h,
      asked,
      predicted: memory,
      counted,
      errorRatio: (memory.readBytes + memory.writtenBytes) / (counted.readBytes + counted.writtenBytes) - 1,
    },
    link: {
      programIn: bytes.h2d,
      countedIn: meanOf(runs, 'linkReadBytes') - COMPLETION_HEADER_BYTES * (byKernels + byEngines),
      programOut: bytes.d2h,
      countedOut: meanOf(runs, 'linkWrittenBytes') - WRITE_HEADER_BYTES * (byKernels + byEngines + sent),
    },
    host: { asked: hostReadBytes, counted: SECTOR_BYTES * meanOf(runs, 'hostReadSectors') },
  };
};

/** All counted steps of a machine; none where nothing was counted. */
export const judgeCounters = (folder: string, machine: string): readonly JudgedCounts[] => {
  const path = join(folder, countersFile(machine));
  if (!existsSync(path)) return [];
  const shape = cacheOf(folder, machine);
  return readCounters(path).cases.map((one) => judgeCase(machine, one, shape));
};

const rounded = (judged: JudgedCounts): JudgedCounts =>
  JSON.parse(JSON.stringify(judged), (key, value: unknown) =>
    typeof value !== 'number' ? value : key === 'errorRatio' ? Number(value.toFixed(4)) : Math.round(value),
  ) as JudgedCounts;

export const readJudgedCounters = (folder: string): readonly JudgedCounts[] =>
  z.array(judgedSchema).parse(JSON.parse(readFileSync(join(folder, JUDGED_COUNTERS_FILE), 'utf8')));

/** Writes what the model of today makes of all counted steps. */
export const writeJudgedCounters = (folder: string, plan: Plan): readonly JudgedCounts[] => {
  const judged = Object.keys(plan.machines).flatMap((machine) => judgeCounters(folder, machine).map(rounded));
  const path = join(folder, JUDGED_COUNTERS_FILE);
  writeFileSync(`${path}.new`, `${JSON.stringify(judged, null, 1)}\n`);
  renameSync(`${path}.new`, path);
  return judged;
};
