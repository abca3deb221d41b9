/**
 * Workloads as a file: what `kvtier validate --prepare` writes where policies are replayed and `--from` reads where
 * kernels run. Gzip JSON; runs of tokens as rows of numbers, since a choice has many.
 */
import * as z from 'zod';
import { type HeadChoice, RUN_PLACES } from '../../sim/decode/head-choice.ts';
import type { traceSourceSchema } from '../../sim/experiment.ts';
import type { Workload } from '../execute/workload.ts';
import { readGzipJson, writeGzipJson } from '../gzip-json.ts';

const WORKLOADS_FORMAT = 'kvtier.workloads/1';

/** Where real rows for checking outputs come from. */
export type TraceSource = z.infer<typeof traceSourceSchema>;

export interface PreparedCase {
  readonly workload: Workload;
  readonly trace: TraceSource;
  /** Tokens that a query head attends to, where all policies were held to one number; null = their own. */
  readonly budget: number | null;
}

/** A case as it stands in a file. */
export const packedCaseSchema = z.object({
  workload: z.custom<Workload>((value) => typeof value === 'object' && value !== null),
  trace: z.custom<TraceSource>((value) => typeof value === 'object' && value !== null),
  budget: z.number().nullable(),
});

const fileSchema = z.object({ format: z.literal(WORKLOADS_FORMAT), cases: z.array(packedCaseSchema).min(1) });

const packChoice = ({ runs, ...rest }: HeadChoice) => ({
  ...rest,
  runs: runs.map(({ from, count, slot, place, form, queries }) => [
    from,
    count,
    slot,
    RUN_PLACES.indexOf(place),
    form,
    queries,
  ]),
});

const unpackChoice = ({ runs, ...rest }: ReturnType<typeof packChoice>): HeadChoice => ({
  ...rest,
  runs: runs.map(([from, count, slot, place, form, queries]) => ({
    from,
    count,
    slot,
    place: RUN_PLACES[place],
    form,
    queries,
  })),
});

const mapChoices = <A, B>(choices: Readonly<Record<number, readonly A[]>>, of: (choice: A) => B) =>
  Object.fromEntries(Object.entries(choices).map(([layer, heads]) => [layer, heads.map(of)]));

/** JSON has no Infinity; a transfer of whole layers has one. */
const packWorkload = ({ program, ...rest }: Workload) => ({
  ...rest,
  program: {
    ...program,
    choices: mapChoices(program.choices, packChoice),
    transfer: {
      ...program.transfer,
      rowTokens: Number.isFinite(program.transfer.rowTokens) ? program.transfer.rowTokens : 0,
    },
  },
});

const unpackWorkload = (packed: ReturnType<typeof packWorkload>): Workload => {
  const { rowTokens } = packed.program.transfer;
  return {
    ...packed,
    program: {
      ...packed.program,
      choices: mapChoices(packed.program.choices, unpackChoice),
      transfer: { ...packed.program.transfer, rowTokens: rowTokens === 0 ? Infinity : rowTokens },
    },
  };
};

export const packCase = ({ workload, ...rest }: PreparedCase): object => ({
  ...rest,
  workload: packWorkload(workload),
});

export const unpackCase = ({ workload, ...rest }: z.infer<typeof packedCaseSchema>): PreparedCase => ({
  ...rest,
  workload: unpackWorkload(workload as unknown as ReturnType<typeof packWorkload>),
});

export const writeWorkloads = (path: string, cases: readonly PreparedCase[]): void =>
  writeGzipJson(path, { format: WORKLOADS_FORMAT, cases: cases.map(packCase) });

/** Throws SimError 'invalid-input' with file, field and expectation. */
export const readWorkloads = (path: string): readonly PreparedCase[] =>
  readGzipJson(path, fileSchema, 'workloads').cases.map(unpackCase);
