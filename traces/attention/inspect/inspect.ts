/**
 * Statistics of a trace's attention, by layer and head: exact attention is computed from the trace's own keys and
 * queries at the looked-at steps, one KV head at a time, so memory stays that of a few rows.
 */
import { mean } from '../../../sim/engine/stats.ts';
import {
  attendExactly,
  createExactAttention,
  type ExactAttention,
} from '../../../sim/quality/exact-attention.ts';
import type { AttentionTrace } from '../../../sim/trace/attention-trace.ts';
import { TraceError } from '../../error.ts';
import { BLOCK_TOKENS, createBlockRow } from './blocks.ts';
import { meanRecord, quantileRecord } from './combine.ts';
import { createConcentration } from './concentration.ts';
import {
  addGroupRow,
  addRow,
  agreementOf,
  createTally,
  type HeadTally,
  type Scratch,
  shapeOf,
  summarizeTally,
} from './head-tally.ts';
import { headPairs, jaccard, massOverlap } from './overlap.ts';
import { chooseInspectSample, type InspectSample, type InspectSampleRequest } from './sampling.ts';
import {
  type Agreement,
  CURVE_FRACTIONS,
  type HeadStatistics,
  ORACLE_SHARES,
  type ShapeStatistics,
} from './statistics.ts';

export interface InspectedHead extends HeadStatistics {
  readonly head: number;
  readonly kvHead: number;
}

export interface InspectedKvHead {
  readonly kvHead: number;
  readonly agreement: Agreement | null;
  /** Of the mean attention of its query heads: what the KV head must serve all together. */
  readonly group: ShapeStatistics;
}

/** By looked-at step: what step 0's top 1 % is still worth. */
export interface Drift {
  readonly setRecall: readonly number[];
  readonly massRecall: readonly number[];
}

export interface InspectedLayer {
  readonly layer: number;
  /** Tokens that the layer attends to; null = all. */
  readonly windowTokens: number | null;
  readonly heads: readonly InspectedHead[];
  readonly kvHeads: readonly InspectedKvHead[];
  /** Mean over the layer's query heads. */
  readonly mean: HeadStatistics;
  readonly drift: Drift;
}

export interface Inspection {
  readonly layers: readonly InspectedLayer[];
  /** Over all heads of all looked-at layers. */
  readonly overall: {
    readonly mean: HeadStatistics;
    readonly p10: HeadStatistics;
    readonly p90: HeadStatistics;
    readonly kvHeads: { readonly agreement: Agreement | null; readonly group: ShapeStatistics };
    readonly drift: Drift;
  };
  readonly sample: InspectSample;
}

export interface InspectInput extends InspectSampleRequest {
  readonly trace: AttentionTrace;
  /** Tokens that a layer attends to (sliding window), its own included; null = all. Default: null. */
  readonly windowOf?: ((layer: number) => number | null) | undefined;
  /** Share done, 0 .. 1. */
  readonly onProgress?: ((share: number) => void) | undefined;
}

interface Work {
  readonly trace: AttentionTrace;
  readonly steps: readonly number[];
  readonly pairs: readonly (readonly [number, number])[];
  readonly exact: ExactAttention;
  readonly scratch: Scratch;
  readonly groupRow: Float32Array;
  /** Index of the first step of the last run. */
  readonly lastRun: number;
}

interface GroupResult {
  readonly heads: readonly InspectedHead[];
  readonly kvHead: InspectedKvHead;
  readonly tallies: readonly HeadTally[];
}

const headOnly = ({ head: _, kvHead: __, ...statistics }: InspectedHead): HeadStatistics => statistics;

const prepare = (trace: AttentionTrace, steps: readonly number[], seed: number): Work => {
  const { heads, kvHeads, promptTokens } = trace.shape;
  const groupSize = heads / kvHeads;
  const tokens = promptTokens + steps[steps.length - 1] + 1;
  const coarsest = BLOCK_TOKENS[BLOCK_TOKENS.length - 1];
  const finest = Math.ceil(tokens / BLOCK_TOKENS[0]);
  return {
    trace,
    steps,
    pairs: headPairs(groupSize, seed),
    exact: createExactAttention(groupSize, tokens, 0),
    scratch: {
      concentration: createConcentration(CURVE_FRACTIONS.length, ORACLE_SHARES.length),
      blocks: createBlockRow(tokens),
      blockShares: new Float64Array(BLOCK_TOKENS.length),
      coarse: new Float32Array(Math.ceil(tokens / coarsest)),
      selected: new Int32Array(finest),
    },
    groupRow: new Float32Array(groupSize > 1 ? tokens : 0),
    lastRun: steps.findLastIndex((step, at) => at === 0 || step !== steps[at - 1] + 1),
  };
};

/** The group's mean attention, of `n` tokens, into work.groupRow. */
const averageRows = ({ exact, groupRow }: Work, n: number): void => {
  const { groupSize, stride, probabilities } = exact;
  const out = groupRow.subarray(0, n).fill(0);
  for (let g = 0; g < groupSize; g++)
    for (let i = 0, at = g * stride; i < n; i++, at++) out[i] += probabilities[at];
  for (let i = 0; i < n; i++) out[i] /= groupSize;
};

const addAgreement = ({ exact, pairs }: Work, tallies: readonly HeadTally[], n: number): void => {
  const { probabilities, stride } = exact;
  for (const [a, b] of pairs) {
    const [one, other] = [tallies[a], tallies[b]];
    const top = jaccard(one.top.positions, one.top.count, other.top.positions, other.top.count);
    const mass = massOverlap(probabilities, a * stride, b * stride, n);
    for (const tally of [one, other]) {
      tally.agreementPairs++;
      tally.agreementTop += top;
      tally.agreementMass += mass;
    }
  }
};

const inspectGroup = (
  work: Work,
  layer: number,
  kvHead: number,
  windowTokens: number | null,
): GroupResult => {
  const { trace, steps, exact, scratch } = work;
  const { headDim, promptTokens } = trace.shape;
  const { groupSize, stride, probabilities } = exact;
  const tallies = Array.from({ length: groupSize }, () => createTally(stride));
  const group = groupSize > 1 ? createTally(stride) : tallies[0];
  const keys = trace.keys(layer, kvHead);
  for (const step of steps) {
    const end = promptTokens + step + 1;
    const first = windowTokens === null ? 0 : Math.max(0, end - windowTokens);
    const n = end - first;
    const attended = first === 0 ? keys : keys.subarray(first * headDim, end * headDim);
    attendExactly(exact, trace.queries(layer, step, kvHead), attended, null, headDim, n);
    for (let g = 0; g < groupSize; g++)
      addRow(tallies[g], probabilities.subarray(g * stride, g * stride + n), n, first, step, scratch);
    if (groupSize === 1) continue;
    addAgreement(work, tallies, n);
    averageRows(work, n);
    addGroupRow(group, work.groupRow, n, first, scratch);
  }
  const heads = tallies.map((tally, g) => ({
    head: kvHead * groupSize + g,
    kvHead,
    ...summarizeTally(tally, work.lastRun),
  }));
  return { heads, kvHead: { kvHead, agreement: agreementOf(...tallies), group: shapeOf(group) }, tallies };
};

const driftOf = (tallies: readonly HeadTally[], steps: number): Drift => {
  const by = (pick: (tally: HeadTally) => readonly number[]): readonly number[] =>
    Array.from({ length: steps }, (_, at) => mean(tallies.map((tally) => pick(tally)[at])));
  return { setRecall: by((tally) => tally.driftSet), massRecall: by((tally) => tally.driftMass) };
};

const layersWithKeys = (trace: AttentionTrace): readonly number[] => {
  const { name, shape } = trace;
  const layers = shape.recordedLayers.filter((layer) => trace.has('k', layer) && trace.has('q', layer));
  if (layers.length > 0 && shape.steps > 0) return layers;
  throw new TraceError('missing', `${name}: fields: expected k and q, from which attention is computed`);
};

/** Inspects a trace; throws TraceError `missing` without keys and queries, `invalid-input` on a layer that it lacks. */
export const inspectTrace = (input: InspectInput): Inspection => {
  const { trace, seed, windowOf = () => null, onProgress = () => {} } = input;
  const sample = chooseInspectSample(trace.shape, layersWithKeys(trace), input);
  const work = prepare(trace, sample.steps, seed);
  const { kvHeads } = trace.shape;
  const layers = sample.layers.map((layer, at): InspectedLayer => {
    const windowTokens = windowOf(layer);
    const groups = Array.from({ length: kvHeads }, (_, kvHead) => {
      onProgress((at * kvHeads + kvHead) / (sample.layers.length * kvHeads));
      return inspectGroup(work, layer, kvHead, windowTokens);
    });
    const heads = groups.flatMap((group) => group.heads);
    const drift = driftOf(
      groups.flatMap((group) => group.tallies),
      sample.steps.length,
    );
    return {
      layer,
      windowTokens,
      heads,
      kvHeads: groups.map((group) => group.kvHead),
      mean: meanRecord(heads.map(headOnly)),
      drift,
    };
  });
  const heads = layers.flatMap((layer) => layer.heads.map(headOnly));
  const groups = layers.flatMap((layer) =>
    layer.kvHeads.map(({ agreement, group }) => ({ agreement, group })),
  );
  return {
    layers,
    overall: {
      mean: meanRecord(heads),
      p10: quantileRecord(heads, 0.1),
      p90: quantileRecord(heads, 0.9),
      kvHeads: meanRecord(groups),
      drift: meanRecord(layers.map((layer) => layer.drift)),
    },
    sample,
  };
};
