/**
 * Runs a resolved experiment again from its own words, anywhere (a worker, the page): the trace comes from the
 * generator, or from the bytes of the file that the experiment names by digest.
 */
import { type CompareRun, compare } from '../../sim/decode/compare.ts';
import { compareExperimentSchema } from '../../sim/experiment.ts';
import type { ExtraPolicies } from '../../sim/policy/find-policy.ts';
import type { AttentionTrace } from '../../sim/trace/attention-trace.ts';
import { windowTrace } from '../../sim/trace/window.ts';
import { TraceError } from '../error.ts';
import { memorySource } from './byte-source.ts';
import { openAttentionTrace } from './reader.ts';
import { syntheticSpecSchema } from './synthetic/spec.ts';
import { createSyntheticTrace } from './synthetic.ts';

export interface ReplayOptions {
  /** The trace file's content; needed where the experiment's trace is a file. */
  readonly traceBytes?: ArrayBuffer | Uint8Array | null;
  readonly extraPolicies?: ExtraPolicies;
  readonly onProgress?: (share: number) => void;
}

/** Throws TraceError when the file is missing or is another one, SimError when the experiment contradicts itself. */
export const replayExperiment = (json: unknown, options: ReplayOptions = {}): CompareRun => {
  const experiment = compareExperimentSchema.parse(json);
  const { contextTokens, steps, trace: source } = experiment;
  let trace: AttentionTrace;
  if (source.kind === 'synthetic') {
    trace = createSyntheticTrace(syntheticSpecSchema.parse(source.spec));
  } else {
    if (!options.traceBytes)
      throw new TraceError('missing', `${source.name}: the experiment needs this trace file`);
    const whole = openAttentionTrace(memorySource(options.traceBytes), source.name);
    if (whole.digest !== source.digest) {
      throw new TraceError(
        'invalid-input',
        `${source.name}: digest ${whole.digest.slice(0, 16)}, expected ${source.digest.slice(0, 16)}: another file`,
      );
    }
    trace = whole;
  }
  const { extraPolicies, onProgress } = options;
  return compare({
    experiment,
    trace: windowTrace(trace, contextTokens, steps),
    ...(extraPolicies ? { extraPolicies } : {}),
    ...(onProgress ? { onProgress } : {}),
  });
};
