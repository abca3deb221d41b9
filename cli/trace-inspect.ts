/** `kvtier trace inspect`: statistics of a trace's attention as a document, a table, and with --out as a picture. */

import type { AttentionTrace } from '../sim/trace/attention-trace.ts';
import { inspectTrace } from '../traces/attention/inspect/inspect.ts';
import { type InspectionResult, inspectionResult } from '../traces/attention/inspect/result.ts';
import { samplePath } from './compare-setup.ts';
import { writeOutput } from './output.ts';
import { parseLayers, type TraceFlags } from './trace-flags.ts';
import { nameOf, openTrace, syntheticSource, windowsOfFile, windowsOfModel } from './trace-source.ts';
import { renderInspection } from './trace-table.ts';
import { UsageError, type VerbContext } from './verb.ts';

interface Subject {
  readonly trace: AttentionTrace;
  readonly name: string;
  readonly origin: Readonly<Record<string, unknown>>;
  readonly provenance: Readonly<Record<string, unknown>>;
  readonly windowOf: (layer: number) => number | null;
}

/** Steps that a generator makes for an inspection: enough to drift. */
const SYNTHETIC_STEPS = 64;

const subjectOf = ({ files, synthetic, task, context, steps, seed }: TraceFlags): Subject => {
  if (files.length > 1) throw new UsageError(`trace inspect: expected one file, got ${files.length}`);
  const [file] = files;
  if (synthetic !== undefined) {
    if (file !== undefined)
      throw new UsageError(`--synthetic ${synthetic}: expected no file beside it, got ${file}`);
    const { trace, model, spec } = syntheticSource(
      { synthetic, task, context, seed },
      Math.max(SYNTHETIC_STEPS, steps ?? 0),
    );
    const origin = { kind: 'synthetic', preset: model.name, spec };
    return { trace, name: trace.name, origin, provenance: {}, windowOf: windowsOfModel(model) };
  }
  if (task !== undefined) throw new UsageError('--task: needs --synthetic; a file has its own');
  if (context !== undefined) throw new UsageError('--context: needs --synthetic; a file has its own length');
  const trace = openTrace(file ?? samplePath());
  const name = nameOf(trace.name);
  const origin = { kind: 'file', name, digest: trace.digest };
  return { trace, name, origin, provenance: trace.metadata.provenance, windowOf: windowsOfFile(trace) };
};

const writeFiles = async (directory: string, result: InspectionResult): Promise<readonly string[]> => {
  const { renderInspectionPage } = await import('../viz/report/render-inspection.ts');
  const page = renderInspectionPage(result);
  return [
    writeOutput(directory, 'result.json', [JSON.stringify(result, null, 2), '\n']),
    writeOutput(directory, 'inspect.html', [page]),
  ];
};

export const inspect = async (given: TraceFlags, context: VerbContext): Promise<void> => {
  const subject = subjectOf(given);
  const layers = parseLayers(given.layers ?? 'auto');
  const progress = context.progress('computing attention', 1);
  const inspection = inspectTrace({
    trace: subject.trace,
    layers,
    steps: given.steps,
    seed: given.seed,
    windowOf: subject.windowOf,
    onProgress: (share) => progress.update(share),
  });
  progress.end();
  const result = inspectionResult(inspection, { ...subject, seed: given.seed, layers });
  const files = given.out === undefined ? [] : await writeFiles(given.out, result);
  context.printJson(result);
  context.print(renderInspection(result, context.columns));
  for (const file of files) context.note(`wrote ${file}`);
};
