/**
 * kvtier's own compact form, `kvtier.requests/1`: JSONL whose first line is a header and whose other lines are
 * `[wait, inputTokens, outputTokens, runs]`, then session and thinkNs if the header names these columns. `wait` is the
 * time since the line before in units of `timeUnitNs`; `runs` are pairs (start, length) of consecutive dense ids.
 */
import * as z from 'zod';
import type { RequestFormat, RequestRow } from '../request-trace.ts';
import { FieldError, sniffObject } from './fields.ts';

export const REQUESTS_FORMAT = 'kvtier.requests/1';

const requestsHeaderSchema = z.object({
  format: z.literal(REQUESTS_FORMAT),
  blockTokens: z.number().int().min(0),
  timeUnitNs: z.number().int().min(1),
  /** Columns after the runs. */
  columns: z.array(z.enum(['session', 'thinkNs'])).default([]),
  /** Where the trace came from and under which licence; for people. */
  source: z.string().optional(),
  licence: z.string().optional(),
});
export type RequestsHeader = z.infer<typeof requestsHeaderSchema>;

const MAX_ID = 2 ** 31 - 2;
const MAX_RUN = 2 ** 24;
const isCount = (value: unknown, most: number): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= most;

const parseLine = (line: string): unknown => {
  try {
    return JSON.parse(line);
  } catch {
    throw new FieldError('(line)', 'JSON', line);
  }
};

const readHeader = (line: string): RequestsHeader => {
  const parsed = requestsHeaderSchema.safeParse(parseLine(line));
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new FieldError(issue.path.join('.') || '(header)', issue.message, issue.input);
};

const readRuns = (runs: unknown): number[] => {
  if (!Array.isArray(runs) || runs.length % 2 !== 0)
    throw new FieldError('runs', 'pairs of start and length', runs);
  const hashes: number[] = [];
  for (let k = 0; k < runs.length; k += 2) {
    const start: unknown = runs[k];
    const length: unknown = runs[k + 1];
    if (!isCount(start, MAX_ID) || !isCount(length, MAX_RUN)) {
      throw new FieldError(`runs[${k}]`, `a start <= ${MAX_ID} and a length <= ${MAX_RUN}`, [start, length]);
    }
    for (let id = start; id < start + length; id++) hashes.push(id);
  }
  return hashes;
};

const readRow = (line: string, header: RequestsHeader, lastNs: number): RequestRow => {
  const row = parseLine(line);
  const cells = 4 + header.columns.length;
  if (!Array.isArray(row) || row.length !== cells)
    throw new FieldError('(line)', `an array of ${cells} cells`, row);
  const [wait, inputTokens, outputTokens, runs] = row as readonly unknown[];
  const extra = (name: 'session' | 'thinkNs'): unknown => row[4 + header.columns.indexOf(name)];
  const session = header.columns.includes('session') ? extra('session') : undefined;
  const thinkNs = header.columns.includes('thinkNs') ? extra('thinkNs') : undefined;
  if (!isCount(wait, Number.MAX_SAFE_INTEGER)) throw new FieldError('wait', 'a whole number >= 0', wait);
  if (!isCount(inputTokens, MAX_ID)) throw new FieldError('inputTokens', 'a whole number >= 0', inputTokens);
  if (!isCount(outputTokens, MAX_ID))
    throw new FieldError('outputTokens', 'a whole number >= 0', outputTokens);
  if (session !== undefined && session !== -1 && !isCount(session, MAX_ID)) {
    throw new FieldError('session', 'a whole number >= -1', session);
  }
  if (thinkNs !== undefined && !(typeof thinkNs === 'number' && thinkNs >= 0)) {
    throw new FieldError('thinkNs', 'a number >= 0', thinkNs);
  }
  return {
    arrivalNs: lastNs + wait * header.timeUnitNs,
    inputTokens,
    outputTokens,
    hashes: readRuns(runs),
    session: session === -1 ? undefined : (session as number | undefined),
    thinkNs: thinkNs as number | undefined,
  };
};

export const format = {
  kind: 'kvtier-requests',
  title: 'kvtier’s compact JSONL (waits, lengths, runs of dense block ids)',
  source: 'traces/requests/formats/kvtier-requests.ts',
  blockTokens: 512,
  sniff: (head) => sniffObject(head)?.format === REQUESTS_FORMAT,
  read: () => {
    let header: RequestsHeader | undefined;
    let lastNs = 0;
    return {
      get blockTokens() {
        return header?.blockTokens;
      },
      line: (text) => {
        if (header === undefined) {
          header = readHeader(text);
          return undefined;
        }
        const row = readRow(text, header, lastNs);
        lastNs = row.arrivalNs;
        return row;
      },
    };
  },
} satisfies RequestFormat;
