/** What a comparison says about itself in words: which part was replayed, and what its measures cannot show. */
import type { CompareExperiment } from '../experiment.ts';
import type { ModelShape } from '../model/shape.ts';
import { qualityLimits } from '../quality/limits.ts';
import type { AttentionTrace, TraceField } from '../trace/attention-trace.ts';
import type { Sample } from './sampling.ts';

/** Which part of the model was replayed; nothing when all of it was. */
export const sampleNote = (sample: Sample, trace: AttentionTrace): string[] => {
  const { recordedLayers, layers, kvHeads } = trace.shape;
  const parts: string[] = [];
  if (sample.layers.length < layers) {
    parts.push(
      `layers ${sample.layers.join(', ')} of ${layers}${recordedLayers.length < layers ? ` (the trace records ${recordedLayers.length})` : ''}`,
    );
  }
  if (sample.kvHeads.length < kvHeads) parts.push(`KV heads ${sample.kvHeads.join(', ')} of ${kvHeads}`);
  const chosen = sample.leadSteps + 1;
  if (chosen < sample.everySteps) parts.push(`${chosen} of ${sample.everySteps} steps`);
  return parts.length === 0
    ? []
    : [`Selection replayed on ${parts.join('; ')}; the nearest replayed layer stands for the others.`];
};

/** Planners ask for contexts that no checkpoint of a model has seen; the timing holds, so it is said, not refused. */
export const contextNote = (model: ModelShape, { contextTokens }: CompareExperiment): string[] =>
  contextTokens <= model.maxContextTokens
    ? []
    : [`${contextTokens} tokens of context: ${model.name} was trained for ${model.maxContextTokens}.`];

/** A type of weights that no law here knows is guessed, and said: a product takes the time of its weights' bytes. */
export const weightsNote = (
  { name, guessedWeights, weightElementBytes }: ModelShape,
  { dense }: CompareExperiment,
): string[] =>
  guessedWeights === null || !dense
    ? []
    : [`Weights of ${name}: ${guessedWeights} is not known; counted as ${weightElementBytes} bytes each.`];

/** From this share of all steps' time on, a mean says more of the prompt than of a step. */
const LEFT_OVER_SHARE = 0.1;

/** Indexes that are built beside the prompt hold up the first steps, once, however many follow. */
export const leftOverNote = (policy: string, leftOverNs: number, decodeNs: number): string[] =>
  leftOverNs < LEFT_OVER_SHARE * decodeNs
    ? []
    : [
        `${policy}: the first steps wait ${(leftOverNs / 1e6).toPrecision(3)} ms for what is left of the prompt's work, ${Math.round((100 * leftOverNs) / decodeNs)} % of the steps' time; p50, or more steps, says what a step takes.`,
      ];

export const limitsOf = (
  { evidenceTokens = [] }: AttentionTrace,
  fields: ReadonlySet<TraceField>,
  steps: number,
  { everySteps, leadSteps }: Sample,
): readonly string[] =>
  qualityLimits({
    hasValues: fields.has('v'),
    hasEvidence: evidenceTokens.length > 0,
    steps,
    everySteps,
    chosenSteps: leadSteps + 1,
  });
