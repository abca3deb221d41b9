/**
 * A recorded trace against a synthetic one of the same model, lengths and layers: statistics of attention, geometry of
 * keys and, above all, what policies make of either.
 */
import { mean } from '../../sim/engine/stats.ts';
import type { AttentionTrace } from '../../sim/trace/attention-trace.ts';
import { windowTrace } from '../../sim/trace/window.ts';
import { inspectTrace } from '../../traces/attention/inspect/inspect.ts';
import { STATISTICS } from '../../traces/attention/inspect/statistics.ts';
import type { RecordedTrace } from '../../traces/attention/reader.ts';
import { presetTasks } from '../../traces/attention/synthetic/spec.ts';
import { createSyntheticTrace } from '../../traces/attention/synthetic.ts';
import { correlationLags, type KeyGeometry, keyGeometry } from './key-geometry.ts';
import { measureOutcomes, type OutcomeCell, type OutcomeRequest } from './outcomes.ts';
import { compareOutcomes, type OutcomeResiduals } from './residuals.ts';

export interface FidelityOptions {
  readonly preset: string;
  /** Task of the preset; default the one that the capture names, where the preset knows it. */
  readonly task?: string | null;
  /** Recorded layers looked at, evenly chosen; default 6. */
  readonly layers?: number;
  /** Decode steps replayed (default 64), and scored: every n-th (default 8). */
  readonly steps?: number;
  readonly everySteps?: number;
  readonly seed?: number;
  readonly budgets?: readonly number[];
  /** Statistics and geometry too; default true. */
  readonly statistics?: boolean;
  readonly onProgress?: ((share: number) => void) | undefined;
}

/** One statistic, mean over the looked-at heads and steps. */
export interface StatisticPair {
  readonly label: string;
  readonly unit: string;
  readonly real: number;
  readonly synthetic: number;
}

export interface Fidelity {
  readonly trace: string;
  readonly preset: string;
  readonly task: string | null;
  readonly promptTokens: number;
  readonly layers: readonly number[];
  readonly real: readonly OutcomeCell[];
  readonly synthetic: readonly OutcomeCell[];
  readonly residuals: OutcomeResiduals;
  readonly statistics: readonly StatisticPair[];
}

/** `count` of the recorded layers, from the middle of equal parts. */
export function chooseLayers(recorded: readonly number[], count: number): readonly number[] {
  const taken = Math.min(count, recorded.length);
  return Array.from({ length: taken }, (_, i) => recorded[Math.floor(((i + 0.5) * recorded.length) / taken)]);
}

/** The synthetic trace that stands for a recorded one: same model shape, task, lengths and layers. */
export function counterpart(
  { shape, metadata }: RecordedTrace,
  preset: string,
  task: string | null,
  steps: number,
  recordedLayers: readonly number[],
  seed: number,
): AttentionTrace {
  const { layers, heads, kvHeads, headDim, promptTokens } = shape;
  const ropeTheta = metadata.rope?.theta ?? 10000;
  return createSyntheticTrace({
    preset,
    ...(task === null ? {} : { task }),
    shape: { layers, heads, kvHeads, headDim, ropeTheta },
    promptTokens,
    steps,
    recordedLayers: [...recordedLayers],
    seed,
  });
}

/** The capture's own task where the preset knows it. */
function taskFor({ metadata }: RecordedTrace, preset: string): string | null {
  const { prompt } = metadata.provenance;
  return typeof prompt === 'string' && presetTasks(preset).includes(prompt) ? prompt : null;
}

export function measureFidelity(trace: RecordedTrace, options: FidelityOptions): Fidelity {
  const { preset, everySteps = 8, seed = 1, onProgress = () => {} } = options;
  const { shape } = trace;
  const steps = Math.min(options.steps ?? 64, shape.steps);
  const layers = chooseLayers(shape.recordedLayers, options.layers ?? 6);
  const kvHeads = Array.from({ length: shape.kvHeads }, (_, kvHead) => kvHead);
  const recorded = windowTrace(trace, shape.promptTokens, steps);
  const task = options.task === undefined ? taskFor(trace, preset) : options.task;
  const synthetic = counterpart(trace, preset, task, steps, layers, seed);
  const outcomes = (of: AttentionTrace, from: number): readonly OutcomeCell[] => {
    const request: OutcomeRequest = {
      trace: of,
      layers,
      kvHeads,
      steps,
      everySteps,
      ...(options.budgets ? { budgets: options.budgets } : {}),
      onProgress: (share) => onProgress(from + 0.4 * share),
    };
    return measureOutcomes(request);
  };
  const real = outcomes(recorded, 0);
  const made = outcomes(synthetic, 0.4);
  return {
    trace: trace.name,
    preset,
    task,
    promptTokens: shape.promptTokens,
    layers,
    real,
    synthetic: made,
    residuals: compareOutcomes(real, made),
    statistics: options.statistics === false ? [] : pairStatistics(recorded, synthetic, layers),
  };
}

/** Decode steps at which statistics are taken. */
const inspectedSteps = 8;

function pairStatistics(
  real: AttentionTrace,
  synthetic: AttentionTrace,
  layers: readonly number[],
): readonly StatisticPair[] {
  const inspect = (trace: AttentionTrace) =>
    inspectTrace({ trace, layers, steps: inspectedSteps, seed: 1 }).overall.mean;
  const [one, other] = [inspect(real), inspect(synthetic)];
  const attention = STATISTICS.flatMap(({ label, unit, of }) => {
    const [a, b] = [of(one), of(other)];
    return a === null || b === null ? [] : [{ label, unit, real: a, synthetic: b }];
  });
  const [a, b] = [meanGeometry(real, layers), meanGeometry(synthetic, layers)];
  const geometry = geometryLabels.map(({ label, unit, of }) => ({
    label,
    unit,
    real: of(a),
    synthetic: of(b),
  }));
  return [...attention, ...geometry];
}

const geometryLabels: readonly { label: string; unit: string; of: (g: KeyGeometry) => number }[] = [
  ...correlationLags.map((lag, i) => ({
    label: `keys ${lag} apart: correlation`,
    unit: 'ratio',
    of: (g: KeyGeometry) => g.correlation[i],
  })),
  { label: 'mean key: share of the squared norm', unit: 'ratio', of: (g) => g.meanRatio },
  { label: 'keys: effective rank', unit: 'directions', of: (g) => g.effectiveRank },
  { label: 'keys: spread of the norm', unit: 'ratio', of: (g) => g.normSpread },
  { label: 'pages found by channel bounds', unit: 'ratio', of: (g) => g.boundRecall },
  { label: 'pages found by mean key', unit: 'ratio', of: (g) => g.meanRecall },
];

function meanGeometry(trace: AttentionTrace, layers: readonly number[]): KeyGeometry {
  const { kvHeads, steps } = trace.shape;
  const at = [0, Math.floor(steps / 2), steps - 1];
  const all = layers.flatMap((layer) =>
    Array.from({ length: kvHeads }, (_, kvHead) => keyGeometry(trace, layer, kvHead, at)),
  );
  const average = (of: (geometry: KeyGeometry) => number): number => mean(all.map(of));
  return {
    correlation: correlationLags.map((_, i) => average(({ correlation }) => correlation[i])),
    meanRatio: average(({ meanRatio }) => meanRatio),
    effectiveRank: average(({ effectiveRank }) => effectiveRank),
    normSpread: average(({ normSpread }) => normSpread),
    boundRecall: average(({ boundRecall }) => boundRecall),
    meanRecall: average(({ meanRecall }) => meanRecall),
  };
}
