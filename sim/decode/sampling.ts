/**
 * Which (layer, KV head, step) triples of a trace are replayed. Replaying everything is exact; long contexts make it
 * slow, so a budget of multiply-adds picks a stratified, seeded sample that depends on shapes only, never on the
 * machine. What is not replayed is represented by its nearest replayed neighbour. Measuring a choice costs several times
 * what making it does, so fewer choices are measured than made.
 */
import { createRandom } from '../engine/random.ts';
import { SimError } from '../error.ts';
import type { AttentionTraceShape } from '../trace/attention-trace.ts';
import type { StepSample } from './step-sample.ts';

export interface Sample extends StepSample {
  /** Replayed layers and KV heads, ascending. */
  readonly layers: readonly number[];
  readonly kvHeads: readonly number[];
}

export interface SampleRequest {
  readonly layers: 'auto' | 'all' | readonly number[];
  readonly kvHeads: 'auto' | 'all' | readonly number[];
  readonly steps: number;
  readonly seed: number;
  /** Layers whose attention does not depend on a policy (sliding windows); never replayed. */
  readonly excludedLayers: readonly number[];
}

/**
 * What `auto` may spend, in multiply-adds of the SIMD kernels (16 a ns on a 3 GHz core): some seconds of one core for
 * six policies. Beside the arithmetic of exact attention, a replayed head costs the making or reading and indexing of
 * its rows, and a step the policies' passes over its tokens: to choose, and where it is measured several times that.
 * All were measured on 32K tokens, and only their proportion matters.
 */
const BUDGET_MACS = 70e9;
const MACS_PER_ROW_CHANNEL = 1000;
const MACS_PER_MEASURED_TOKEN = 3400;
const MACS_PER_CHOSEN_TOKEN = 600;

/**
 * Choices before a measured one that a sample has at least. After fifteen, a buffer of one step's choice is as it would be,
 * and caches of several choices come near it.
 */
const LEAST_LEAD_STEPS = 15;

/** Steps of the ladder: at most so many layers, KV heads and measured steps. */
const LADDER = [
  [Infinity, Infinity, Infinity],
  [12, Infinity, Infinity],
  [8, 4, 64],
  [8, 2, 32],
  [6, 2, 16],
  [4, 2, 16],
  [4, 2, 8],
  [4, 1, 8],
  [3, 1, 4],
  [3, 1, 3],
  [2, 1, 2],
] as const;

/** One of each of `count` equal strata of `all`, drawn by the seed. */
const stratified = (all: readonly number[], count: number, seed: number, name: string): readonly number[] => {
  if (count >= all.length) return all;
  const random = createRandom(seed, `sample-${name}`);
  return Array.from({ length: count }, (_, i) => {
    const from = Math.floor((i * all.length) / count);
    const to = Math.floor(((i + 1) * all.length) / count);
    return all[from + random.integer(to - from)];
  });
};

const range = (n: number): readonly number[] => Array.from({ length: n }, (_, i) => i);

const explicit = (
  wanted: readonly number[],
  available: readonly number[],
  what: string,
): readonly number[] => {
  for (const id of wanted) {
    if (!available.includes(id)) {
      throw new SimError(
        'invalid-input',
        `${what} ${id} is not in the trace, which has ${available.join(', ')}`,
      );
    }
  }
  return [...new Set(wanted)].sort((a, b) => a - b);
};

/** Which layers and KV heads are replayed where at most so many may be. */
const limitRows = (shape: AttentionTraceShape, request: SampleRequest) => {
  const { seed } = request;
  const recorded = shape.recordedLayers.filter((layer) => !request.excludedLayers.includes(layer));
  if (recorded.length === 0)
    throw new SimError('invalid-input', 'the trace records no layer with full attention');
  const kvHeads = range(shape.kvHeads);
  return (layerLimit: number, headLimit: number) => ({
    layers: Array.isArray(request.layers)
      ? explicit(request.layers, shape.recordedLayers, 'layer')
      : stratified(recorded, request.layers === 'all' ? Infinity : layerLimit, seed, 'layers'),
    kvHeads: Array.isArray(request.kvHeads)
      ? explicit(request.kvHeads, kvHeads, 'KV head')
      : stratified(kvHeads, request.kvHeads === 'all' ? Infinity : headLimit, seed, 'kv-heads'),
  });
};

const spreadSteps = (steps: number, limit: number) => {
  const everySteps = Math.max(1, Math.ceil(steps / limit));
  const leastLead = Math.min(LEAST_LEAD_STEPS, everySteps - 1);
  return { everySteps, leastLead, places: Math.ceil(steps / everySteps) };
};

export const chooseSample = (shape: AttentionTraceShape, request: SampleRequest): Sample => {
  const tokens = shape.promptTokens + shape.steps;
  const macsPerHead = MACS_PER_ROW_CHANNEL * tokens * shape.headDim;
  const macsPerChoice = tokens * MACS_PER_CHOSEN_TOKEN;
  const macsPerMeasure =
    tokens * (2 * shape.headDim * (shape.heads / shape.kvHeads) + MACS_PER_MEASURED_TOKEN);
  const rowsOf = limitRows(shape, request);
  // Layers and heads that were asked for by name choose whatever it costs; measuring then still gets its half.
  const [fewestLayers, fewestHeads, fewestSteps] = LADDER[LADDER.length - 1];
  const fewest = rowsOf(fewestLayers, fewestHeads);
  const least = spreadSteps(request.steps, fewestSteps);
  const leastPerHead = macsPerHead + least.places * (least.leastLead + 1) * macsPerChoice;
  const leastMacs = fewest.layers.length * fewest.kvHeads.length * leastPerHead;
  const budgetMacs = Math.max(BUDGET_MACS, leastMacs + BUDGET_MACS / 2);
  let sample: Sample | undefined;
  for (const [layerLimit, headLimit, stepLimit] of LADDER) {
    const rows = rowsOf(layerLimit, headLimit);
    const { everySteps, leastLead, places } = spreadSteps(request.steps, stepLimit);
    // What measuring leaves goes to choosing at more of the steps between.
    const perHead = budgetMacs / (rows.layers.length * rows.kvHeads.length);
    const left = perHead - macsPerHead - places * macsPerMeasure;
    const affordable = Math.floor(left / (places * macsPerChoice)) - 1;
    const leadSteps = Math.max(leastLead, Math.min(everySteps - 1, affordable));
    sample = { ...rows, everySteps, leadSteps };
    if (affordable >= leastLead) return sample;
  }
  if (sample === undefined) throw new SimError('invariant-broken', 'the sampling ladder is empty');
  return sample;
};
