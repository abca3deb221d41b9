/** Profiles of all recorded heads of a model from captures of it, as the lines of a preset. */
import * as z from 'zod';
import { TraceError } from '../../error.ts';
import { encodeProfile } from '../presets/profile-code.ts';
import type { RecordedTrace } from '../reader.ts';
import { fitHead } from './head-fit.ts';
import { measureHead } from './measured.ts';
import { tokenIdentities, unrotateHead } from './unrotated.ts';

/** Decode steps of each capture at which the head's attention is measured. */
const measuredSteps = 8;

export interface ModelFit {
  readonly name: string;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly ropeTheta: number;
  /** A line a KV head, layer by layer. */
  readonly profiles: readonly string[];
}

/** All traces are of one model; each layer is fitted on those that record it, at least one. `name` is the preset's. */
export function fitModel(
  name: string,
  traces: readonly RecordedTrace[],
  onProgress: (share: number) => void = () => {},
): ModelFit {
  const [first] = traces;
  const { layers, heads, kvHeads, headDim } = first.shape;
  const ropeTheta = first.metadata.rope?.theta ?? 10000;
  for (const trace of traces) checkTrace(trace, first);
  const identities = traces.map((trace) => tokenIdentities(trace, ropeTheta));
  const profiles: string[] = [];
  for (let layer = 0; layer < layers; layer++) {
    const known = traces.flatMap((trace, i) =>
      trace.has('k', layer) ? [{ trace, tokens: identities[i] }] : [],
    );
    if (known.length === 0)
      throw new TraceError(
        'missing',
        `${first.name}: recordedLayers: expected layer ${layer} in some capture`,
      );
    for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
      const sources = known.map(({ trace, tokens }) => ({
        head: unrotateHead(trace, ropeTheta, layer, kvHead, evidenceOf(trace)),
        identities: tokens,
        measured: measureHead(trace, layer, kvHead, measuredSteps),
      }));
      profiles.push(encodeProfile(fitHead(sources)));
      onProgress(profiles.length / (layers * kvHeads));
    }
  }
  return { name, layers, heads, kvHeads, headDim, ropeTheta, profiles };
}

/** As the capture tool notes it, where the task has one. */
function evidenceOf({ metadata, shape }: RecordedTrace): readonly [number, number] | null {
  const range = z.tuple([z.int().min(0), z.int().min(1)]).safeParse(metadata.text.evidenceTokens);
  if (!range.success) return null;
  const [from, to] = range.data;
  return from < to && to <= shape.promptTokens ? [from, to] : null;
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
