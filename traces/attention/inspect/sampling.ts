/**
 * Which layers and decode steps an inspection looks at. Everything is exact; a long trace is sampled by a seeded rule
 * that depends on shapes alone: steps in runs of successive ones (locality needs neighbours), the first run at step 0
 * (drift needs the origin), one run in each equal part of the generation; layers one in each equal part of the model.
 */
import { createRandom } from '../../../sim/engine/random.ts';
import type { AttentionTraceShape } from '../../../sim/trace/attention-trace.ts';
import { TraceError } from '../../error.ts';

export interface InspectSample {
  readonly layers: readonly number[];
  readonly steps: readonly number[];
}

export interface InspectSampleRequest {
  readonly layers: 'auto' | 'all' | readonly number[];
  /** Steps to look at; undefined = as many as the budget allows, at most 16. */
  readonly steps?: number | undefined;
  readonly seed: number;
}

/** Multiply-adds that `auto` spends on logits: 24 layers of 14 heads of 64 over 32K tokens at 16 steps. */
const BUDGET_MACS = 12e9;
const DEFAULT_STEPS = 16;

/** What `auto` takes, the first that fits the budget: at most so many layers and steps. */
const LADDER = [
  [Infinity, 16],
  [16, 16],
  [12, 16],
  [8, 16],
  [8, 8],
  [6, 8],
  [4, 8],
  [4, 4],
  [2, 4],
  [1, 4],
] as const;

/** About √count successive steps a run: enough neighbours, enough places. */
const runLength = (count: number): number => Math.max(2, Math.round(Math.sqrt(count)));

/** `count` of the steps 0 .. steps-1, ascending, in runs; all when there are no more. */
export const chooseSteps = (steps: number, count: number, seed: number): readonly number[] => {
  if (count >= steps) return Array.from({ length: steps }, (_, step) => step);
  const runs = Math.max(1, Math.floor(count / runLength(count)));
  const random = createRandom(seed, 'inspect-steps');
  const skipped = steps - count;
  const chosen: number[] = [];
  for (let run = 0; run < runs; run++) {
    const before = Math.floor((count * run) / runs);
    const length = Math.floor((count * (run + 1)) / runs) - before;
    // Steps left out so far: somewhere in this run's equal part of them, so runs never meet and always fit.
    const from = Math.floor((skipped * run) / runs);
    const to = Math.floor((skipped * (run + 1)) / runs);
    const start = run === 0 ? 0 : before + from + random.integer(to - from + 1);
    for (let i = 0; i < length; i++) chosen.push(start + i);
  }
  return chosen;
};

const stratified = (all: readonly number[], count: number, seed: number): readonly number[] => {
  if (count >= all.length) return all;
  const random = createRandom(seed, 'inspect-layers');
  return Array.from({ length: count }, (_, i) => {
    const from = Math.floor((i * all.length) / count);
    return all[from + random.integer(Math.floor(((i + 1) * all.length) / count) - from)];
  });
};

const explicitLayers = (wanted: readonly number[], available: readonly number[]): readonly number[] => {
  for (const layer of wanted) {
    if (!available.includes(layer)) {
      throw new TraceError(
        'invalid-input',
        `--layers ${layer}: the trace has keys and queries of layers ${available.join(', ')}`,
      );
    }
  }
  return [...new Set(wanted)].sort((a, b) => a - b);
};

/** `available`: layers with keys and queries, ascending, at least one. */
export const chooseInspectSample = (
  shape: AttentionTraceShape,
  available: readonly number[],
  { layers, steps, seed }: InspectSampleRequest,
): InspectSample => {
  const { heads, headDim, promptTokens } = shape;
  const macsPerStep = heads * headDim * (promptTokens + shape.steps);
  const layersWithin = (limit: number): readonly number[] => {
    if (layers === 'all') return available;
    return layers === 'auto' ? stratified(available, limit, seed) : explicitLayers(layers, available);
  };
  let sample: InspectSample = { layers: [], steps: [] };
  for (const [layerLimit, stepLimit] of LADDER) {
    const count = steps ?? Math.min(DEFAULT_STEPS, stepLimit);
    sample = { layers: layersWithin(layerLimit), steps: chooseSteps(shape.steps, count, seed) };
    if (sample.layers.length * sample.steps.length * macsPerStep <= BUDGET_MACS) break;
  }
  return sample;
};
