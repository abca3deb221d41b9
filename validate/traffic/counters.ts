/**
 * What hardware counters said of whole steps, beside the steps: so that any later model can be held to them without the
 * machine. `npm run record -- count` makes such a file (docs/validation.md, "Counters").
 */
import * as z from 'zod';
import { SimError } from '../../sim/error.ts';
import { readGzipJson, writeGzipJson } from '../gzip-json.ts';
import { type PreparedCase, packCase, packedCaseSchema, unpackCase } from '../policies/pack.ts';
import { machineSchema } from '../samples.ts';

const COUNTERS_FORMAT = 'kvtier.counters/1';

/** Counters of Nsight Compute by what they are called here; sectors have 32 bytes. */
export const METRICS = {
  hbmReadBytes: 'dram__bytes_read.sum',
  hbmWrittenBytes: 'dram__bytes_write.sum',
  linkReadBytes: 'pcie__read_bytes.sum',
  linkWrittenBytes: 'pcie__write_bytes.sum',
  hostReadSectors: 'lts__t_sectors_srcunit_tex_aperture_sysmem_op_read.sum',
} as const;

type CounterName = keyof typeof METRICS;
const COUNTER_NAMES = Object.keys(METRICS) as CounterName[];

const countsSchema = z.object({
  hbmReadBytes: z.number().nonnegative(),
  hbmWrittenBytes: z.number().nonnegative(),
  linkReadBytes: z.number().nonnegative(),
  linkWrittenBytes: z.number().nonnegative(),
  hostReadSectors: z.number().nonnegative(),
});

export type Counts = z.infer<typeof countsSchema>;

const fileSchema = z.object({
  format: z.literal(COUNTERS_FORMAT),
  machine: machineSchema,
  /** How it was counted: tool and flags. */
  tool: z.string(),
  /** Each step with what each run of it counted. */
  cases: z.array(packedCaseSchema.extend({ runs: z.array(countsSchema).min(1) })).min(1),
});

export interface CountedCase {
  readonly prepared: PreparedCase;
  readonly runs: readonly Counts[];
}

export interface Counters extends Pick<z.infer<typeof fileSchema>, 'machine' | 'tool'> {
  readonly cases: readonly CountedCase[];
}

/** Throws SimError 'invalid-input' with file, field and expectation. */
export const readCounters = (path: string): Counters => {
  const { machine, tool, cases } = readGzipJson(path, fileSchema, 'counters');
  return {
    machine,
    tool,
    cases: cases.map(({ runs, ...packed }) => ({ prepared: unpackCase(packed), runs })),
  };
};

export const writeCounters = (path: string, { machine, tool, cases }: Counters): void =>
  writeGzipJson(path, {
    format: COUNTERS_FORMAT,
    machine,
    tool,
    cases: cases.map(({ prepared, runs }) => ({ ...packCase(prepared), runs })),
  });

/** What Nsight Compute writes behind numbers. */
const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  byte: 1,
  Kbyte: 1e3,
  Mbyte: 1e6,
  Gbyte: 1e9,
  sector: 1,
};

const cellsOf = (line: string): readonly string[] => line.replace(/^"|"\s*$/g, '').split('","');

const bad = (where: string, text: string): SimError => new SimError('invalid-input', `${where}: ${text}`);

/** The ranges of a table that `ncu --csv --page raw` wrote, in their order. Throws SimError 'invalid-input'. */
export const parseCounts = (text: string, where: string): readonly Counts[] => {
  const [header, units, ...rows] = text
    .split('\n')
    .filter((line) => line.startsWith('"'))
    .map(cellsOf);
  if (header === undefined || units === undefined) throw bad(where, 'expected a table of counters');
  const columns = COUNTER_NAMES.map((name) => {
    const at = header.indexOf(METRICS[name]);
    if (at < 0) throw bad(where, `no column ${METRICS[name]}`);
    const unit = UNITS[units[at]];
    if (unit === undefined) throw bad(where, `${METRICS[name]}: unknown unit ${units[at]}`);
    return { name, at, unit };
  });
  return rows.map((cells, row) =>
    countsSchema.parse(
      Object.fromEntries(
        columns.map(({ name, at, unit }) => {
          const value = unit * Number((cells[at] ?? 'none').replaceAll(',', ''));
          if (!Number.isFinite(value))
            throw bad(where, `range ${row}: ${METRICS[name]}: expected a number, found ${cells[at]}`);
          return [name, value];
        }),
      ),
    ),
  );
};
