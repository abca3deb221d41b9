/** The document that an inspection leaves (`kvtier.result/1`, kind trace-inspect): what the command prints and the page reads. */
import { digestOfJson } from '../../../sim/engine/digest.ts';
import { RESULT_FORMAT } from '../../../sim/result.ts';
import {
  type AttentionTrace,
  type AttentionTraceShape,
  traceFields,
} from '../../../sim/trace/attention-trace.ts';
import { BLOCK_TOKENS } from './blocks.ts';
import { roundRecord } from './combine.ts';
import type { InspectedLayer, Inspection } from './inspect.ts';
import {
  CURVE_FRACTIONS,
  ORACLE_SHARES,
  RECENT_TOKENS,
  SELECTED_BLOCK_FRACTION,
  SINK_TOKENS,
  TOP_FRACTION,
  TOP_MASS_FRACTIONS,
  TOP_TOKENS,
} from './statistics.ts';

/** The constants behind the statistics, so that the numbers can be read without the code. */
const DEFINITIONS = {
  sinkTokens: SINK_TOKENS,
  recentTokens: RECENT_TOKENS,
  topMassFractions: TOP_MASS_FRACTIONS,
  oracleShares: ORACLE_SHARES,
  curveFractions: CURVE_FRACTIONS,
  topFraction: TOP_FRACTION,
  topTokens: TOP_TOKENS,
  selectedBlockFraction: SELECTED_BLOCK_FRACTION,
  blockTokens: BLOCK_TOKENS,
} as const;

export interface InspectionResult {
  readonly format: typeof RESULT_FORMAT;
  readonly kind: 'trace-inspect';
  readonly experiment: {
    readonly trace: Readonly<Record<string, unknown>>;
    /** Looked-at layers and steps. */
    readonly layers: readonly number[];
    readonly steps: readonly number[];
    readonly definitions: typeof DEFINITIONS;
  };
  readonly seed: number;
  readonly trace: {
    readonly name: string;
    readonly model: string;
    readonly shape: AttentionTraceShape;
    readonly fields: readonly string[];
    readonly digest: string;
    readonly provenance: Readonly<Record<string, unknown>>;
  };
  readonly layers: readonly InspectedLayer[];
  readonly overall: Inspection['overall'];
  readonly digest: string;
  readonly notes: readonly string[];
}

export interface ResultInput {
  readonly trace: AttentionTrace;
  /** Name without folders, so that the document is the same wherever the file lies. */
  readonly name: string;
  /** Where the trace comes from: a file's digest, or a generator's specification. */
  readonly origin: Readonly<Record<string, unknown>>;
  readonly provenance: Readonly<Record<string, unknown>>;
  readonly seed: number;
  /** How the layers were asked for. */
  readonly layers: 'auto' | 'all' | readonly number[];
}

const notesOf = (
  { sample, layers }: Inspection,
  { trace: { shape }, layers: asked }: ResultInput,
): readonly string[] => {
  const notes: string[] = [];
  if (sample.layers.length < shape.layers) {
    const all = sample.layers.length === shape.recordedLayers.length;
    const why = all ? 'what the trace records' : asked === 'auto' ? 'a seeded sample' : 'as asked';
    notes.push(`Layers ${sample.layers.join(', ')} of ${shape.layers}: ${why}.`);
  }
  if (sample.steps.length < shape.steps)
    notes.push(`${sample.steps.length} of ${shape.steps} steps, in seeded runs of successive ones.`);
  const sliding = layers.filter(({ windowTokens }) => windowTokens !== null);
  if (sliding.length > 0)
    notes.push(
      `Layers ${sliding.map(({ layer }) => layer).join(', ')} attend to their last ${sliding[0].windowTokens} tokens only.`,
    );
  if (shape.heads / shape.kvHeads > 8)
    notes.push('Agreement in a group is measured on a seeded sample of its pairs of heads.');
  return notes;
};

/** Numbers are rounded to six digits; the digest covers what was looked at and everything that came out. */
export const inspectionResult = (inspection: Inspection, input: ResultInput): InspectionResult => {
  const { trace, name, origin, provenance, seed } = input;
  const { sample } = inspection;
  const [layer] = sample.layers;
  const experiment = { trace: origin, layers: sample.layers, steps: sample.steps, definitions: DEFINITIONS };
  const layers = roundRecord(inspection.layers);
  const overall = roundRecord(inspection.overall);
  return {
    format: RESULT_FORMAT,
    kind: 'trace-inspect',
    experiment,
    seed,
    trace: {
      name,
      model: trace.model,
      shape: trace.shape,
      fields: traceFields.filter((field) => trace.has(field, layer)),
      digest: trace.digest,
      provenance,
    },
    layers,
    overall,
    digest: digestOfJson({ experiment, seed, layers, overall }),
    notes: notesOf(inspection, input),
  };
};
