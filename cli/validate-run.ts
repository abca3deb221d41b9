/** Running prepared cases: picks the backend, finds the rows of each case's trace, and reports what was passed over. */
import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import type { BackendName } from '../kernels/backend.ts';
import type { AttentionTrace } from '../sim/trace/attention-trace.ts';
import { windowTrace } from '../sim/trace/window.ts';
import { openAttentionFile } from '../traces/attention/node-file.ts';
import { syntheticSpecSchema } from '../traces/attention/synthetic/spec.ts';
import { createSyntheticTrace } from '../traces/attention/synthetic.ts';
import { limitsOf } from '../validate/policies/case-memory.ts';
import type { PreparedCase } from '../validate/policies/pack.ts';
import { GIVEN_UP, type RunCasesOptions, runCases } from '../validate/policies/run-cases.ts';
import type { ValidationSamples } from '../validate/policies/samples.ts';
import { samplePath } from './compare-setup.ts';
import { openBackend } from './open-backend.ts';
import type { VerbContext } from './verb.ts';

/** What the verb's flags say about running. */
export interface RunFlags {
  readonly backend?: BackendName | undefined;
  readonly trace?: string | undefined;
  readonly memory: number;
  readonly repeats: number;
  readonly rounds: number;
  readonly once: boolean;
  readonly verbose: boolean;
  readonly checkUpTo: number;
  readonly timeLimit: number;
  readonly caseLimit: number;
  readonly seed: number;
}

/** Opens a case's trace: made again, or the file that the user names or that ships; null where it is not there. */
const openTrace = (source: PreparedCase['trace'], path: string | undefined): AttentionTrace | null => {
  if (source.kind === 'synthetic') return createSyntheticTrace(syntheticSpecSchema.parse(source.spec));
  const file = path ?? samplePath();
  if (basename(file) !== source.name || !existsSync(file)) return null;
  const trace = openAttentionFile(file);
  return trace.digest === source.digest ? trace : null;
};

/** Rows of cases, cut as for the replay; a trace is opened once. */
const createRows = (path: string | undefined, mostTokens: number): RunCasesOptions['rowsOf'] => {
  const traces = new Map<string, AttentionTrace | null>();
  return ({ trace: source, workload: { context, program } }) => {
    if (context > mostTokens) return null;
    const key = JSON.stringify(source);
    const trace = traces.has(key) ? (traces.get(key) ?? null) : openTrace(source, path);
    traces.set(key, trace);
    if (trace === null) return null;
    const window = windowTrace(trace, context, program.step + 1);
    return (layer, kvHead) =>
      window.has('k', layer) && window.has('v', layer) && window.has('q', layer)
        ? {
            keys: window.keys(layer, kvHead),
            values: window.values(layer, kvHead),
            queries: window.queries(layer, program.step, kvHead),
          }
        : null;
  };
};

const optionsOf = (given: RunFlags, context: VerbContext, onProgress: (share: number) => void) => ({
  warmups: 1,
  repeats: given.repeats,
  rounds: given.rounds,
  once: given.once,
  limitMs: 1000 * given.timeLimit,
  caseLimitMs: 1000 * given.caseLimit,
  say: (line: string) => {
    if (given.verbose) context.note(line);
  },
  seed: given.seed,
  date: new Date().toISOString().slice(0, 10),
  rowsOf: createRows(given.trace, given.checkUpTo),
  onProgress,
});

/**
 * Runs the cases that `getCases` gives for so many bytes of each tier, once there is a backend: who has none should not
 * wait for a replay to learn it.
 * Throws KernelError when the wanted backend can't be had.
 */
export const runPrepared = async (
  getCases: (memoryBytes: number) => readonly PreparedCase[],
  given: RunFlags,
  context: VerbContext,
): Promise<ValidationSamples> => {
  const backend = await openBackend(given.backend, context);
  let answers = true;
  try {
    const limits = limitsOf(backend, given.memory);
    const cases = getCases(Math.min(limits.hbmBytes, limits.dramBytes));
    const progress = context.progress(`running on ${backend.device.name} (${backend.name})`, 1);
    const options = { ...limits, ...optionsOf(given, context, (share) => progress.update(share)) };
    const samples = await runCases(backend, cases, options).finally(() => progress.end());
    answers = !samples.refused.some(({ reason }) => reason.endsWith(GIVEN_UP));
    return samples;
  } finally {
    // To close a backend that hangs would hang as well.
    if (answers) backend.close();
  }
};
