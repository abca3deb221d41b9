/** Profiles of all recorded heads of a model, and what tasks change in them, from captures: the tables of a preset. */
import * as z from 'zod';
import { TraceError } from '../../error.ts';
import type { FittedTables, TaskTable } from '../presets/fitted.ts';
import type { Attended } from '../presets/preset.ts';
import { encodeAttended, encodeProfile } from '../presets/profile-code.ts';
import type { RecordedTrace } from '../reader.ts';
import { regionBounds } from '../synthetic/regions.ts';
import { fillGaps, meanAttended, measureAttended } from './attended.ts';
import { evidencePlace } from './evidence.ts';
import type { FitSource } from './fit-source.ts';
import { fitHead, textSpread } from './head-fit.ts';
import { measureHead } from './measured.ts';
import { questionLength } from './question.ts';
import { tokenIdentities, unrotateHead } from './unrotated.ts';

/** Decode steps of each capture at which the head's attention is measured. */
const measuredSteps = 8;

/** One capture with what the fit knows of it as a whole. */
interface Source {
  readonly trace: RecordedTrace;
  /** Null where the capture names none. */
  readonly task: string | null;
  readonly identities: Int32Array | null;
  readonly questionTokens: number;
  readonly evidencePlace: number;
  readonly ropeTheta: number;
}

/** All traces are of one model; each layer is fitted on those that record it, at least one. `name` is the preset's. */
export function fitModel(
  name: string,
  traces: readonly RecordedTrace[],
  onProgress: (share: number) => void = () => {},
): FittedTables {
  const [first] = traces;
  const { layers, heads, kvHeads, headDim } = first.shape;
  const ropeTheta = first.metadata.rope?.theta ?? 10000;
  for (const trace of traces) checkTrace(trace, first);
  const sources = traces.map((trace): Source => {
    const questionTokens = questionLength(trace);
    return {
      trace,
      task: taskOf(trace),
      identities: tokenIdentities(trace, ropeTheta),
      questionTokens,
      evidencePlace: evidencePlace(trace, questionTokens),
      ropeTheta,
    };
  });
  const profiles: string[] = [];
  const attended: (Attended | null)[][] = sources.map(() => []);
  for (let layer = 0; layer < layers; layer++) {
    const known = sources.filter(({ trace }) => trace.has('k', layer));
    if (known.length === 0)
      throw new TraceError(
        'missing',
        `${first.name}: recordedLayers: expected layer ${layer} in some capture`,
      );
    for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
      const heads = known.map((source) => headOf(source, layer, kvHead));
      const profile = fitHead(heads);
      profiles.push(encodeProfile(profile));
      for (const [i, source] of sources.entries()) {
        const head = heads[known.indexOf(source)];
        attended[i].push(
          head === undefined ? null : attendedOf(source, layer, kvHead, textSpread(head, profile)),
        );
      }
      onProgress(profiles.length / (layers * kvHeads));
    }
  }
  const filled = fillGaps(attended, kvHeads);
  const names = [...new Set(sources.flatMap(({ task }) => (task === null ? [] : [task])))].sort();
  const meanOf = (indices: readonly number[], of: (source: Source) => number): number =>
    indices.reduce((sum, i) => sum + of(sources[i]), 0) / indices.length;
  const tableOf = (indices: readonly number[]): TaskTable => ({
    questionTokens: Math.round(meanOf(indices, ({ questionTokens }) => questionTokens)),
    evidencePlace: meanOf(indices, (source) => source.evidencePlace),
    attended: encodeAttended(profiles.map((_, head) => meanAttended(indices.map((i) => filled[i][head])))),
  });
  const indicesOf = (task: string): readonly number[] =>
    [...sources.keys()].filter((i) => sources[i].task === task);
  return {
    name,
    shape: { layers, heads, kvHeads, headDim, ropeTheta },
    profiles,
    mean: tableOf([...sources.keys()]),
    tasks: Object.fromEntries(names.map((task) => [task, tableOf(indicesOf(task))])),
  };
}

function attendedOf(
  { trace, questionTokens, evidencePlace: place }: Source,
  layer: number,
  kvHead: number,
  spread: number,
): Attended {
  const bounds = regionBounds(trace.shape.promptTokens, questionTokens, place);
  return measureAttended(trace, layer, kvHead, bounds, spread);
}

function headOf(
  { trace, identities, questionTokens, ropeTheta }: Source,
  layer: number,
  kvHead: number,
): FitSource {
  return {
    head: unrotateHead(trace, ropeTheta, layer, kvHead, evidenceOf(trace)),
    identities,
    measured: measureHead(trace, layer, kvHead, measuredSteps),
    questionTokens,
  };
}

/** As the capture tool names it. */
function taskOf({ metadata }: RecordedTrace): string | null {
  const { prompt } = metadata.provenance;
  return typeof prompt === 'string' ? prompt : null;
}

const passage = z.tuple([z.int().min(0), z.int().min(1)]);
const evidenceSchema = z.union([z.array(passage), passage.transform((one) => [one])]);

/** As the capture tool notes it, where the task has some. */
function evidenceOf({ metadata, shape }: RecordedTrace): readonly (readonly [number, number])[] {
  const passages = evidenceSchema.safeParse(metadata.text.evidenceTokens);
  if (!passages.success) return [];
  return passages.data.filter(([from, to]) => from < to && to <= shape.promptTokens);
}

function checkTrace(trace: RecordedTrace, first: RecordedTrace): void {
  const { shape, name } = trace;
  const fail = (field: string, expectation: string): never => {
    throw new TraceError('invalid-input', `${name}: ${field}: expected ${expectation}`);
  };
  for (const field of ['layers', 'heads', 'kvHeads', 'headDim'] as const)
    if (shape[field] !== first.shape[field])
      fail(field, `${first.shape[field]} as in ${first.name}, found ${shape[field]}`);
  for (const field of ['k', 'q'] as const)
    if (!trace.has(field, shape.recordedLayers[0]))
      fail('fields', `${field}, from which attention is fitted`);
}
