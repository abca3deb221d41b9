/**
 * Which (layer, KV head, step) triples of a trace are replayed. Replaying everything is exact; long contexts make it
 * slow, so a budget of multiply-adds picks a stratified, seeded sample that depends on shapes only, never on the
 * machine. What is not replayed is represented by its nearest replayed neighbour.
 */
import { createRandom } from '../engine/random.ts';
import { SimError } from '../error.ts';
import type { AttentionTraceShape } from '../trace/attention-trace.ts';

export interface Sample {
  /** Replayed layers and KV heads, ascending. */
  readonly layers: readonly number[];
  readonly kvHeads: readonly number[];
  /** Queries are scored at every n-th step; appends and demotions happen at every step. */
  readonly everySteps: number;
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
 * its rows, and a scored step the policies' passes over its tokens; both measured on 32K tokens, and only their
 * proportion matters.
 */
const BUDGET_MACS = 64e9;
const MACS_PER_ROW_CHANNEL = 1000;
const MACS_PER_SCORED_TOKEN = 4000;

/** Steps of the ladder: at most so many layers, KV heads and scored steps. */
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

export const chooseSample = (shape: AttentionTraceShape, request: SampleRequest): Sample => {
  const recorded = shape.recordedLayers.filter((layer) => !request.excludedLayers.includes(layer));
  if (recorded.length === 0)
    throw new SimError('invalid-input', 'the trace records no layer with full attention');
  const tokens = shape.promptTokens + shape.steps;
  const macsPerHead = MACS_PER_ROW_CHANNEL * tokens * shape.headDim;
  const macsPerTriple = tokens * (2 * shape.headDim * (shape.heads / shape.kvHeads) + MACS_PER_SCORED_TOKEN);
  const chooseLayers = (limit: number): readonly number[] =>
    Array.isArray(request.layers)
      ? explicit(request.layers, shape.recordedLayers, 'layer')
      : stratified(recorded, request.layers === 'all' ? Infinity : limit, request.seed, 'layers');
  const chooseHeads = (limit: number): readonly number[] =>
    Array.isArray(request.kvHeads)
      ? explicit(request.kvHeads, range(shape.kvHeads), 'KV head')
      : stratified(
          range(shape.kvHeads),
          request.kvHeads === 'all' ? Infinity : limit,
          request.seed,
          'kv-heads',
        );
  // Layers and heads that were asked for by name are replayed whatever they cost; steps then still get their half.
  const [fewestLayers, fewestHeads] = LADDER[LADDER.length - 1];
  const leastMacs = macsPerHead * chooseLayers(fewestLayers).length * chooseHeads(fewestHeads).length;
  const budgetMacs = Math.max(BUDGET_MACS, leastMacs + BUDGET_MACS / 2);
  let sample: Sample | undefined;
  for (const [layerLimit, headLimit, stepLimit] of LADDER) {
    const everySteps = Math.max(1, Math.ceil(request.steps / stepLimit));
    sample = { layers: chooseLayers(layerLimit), kvHeads: chooseHeads(headLimit), everySteps };
    const scored = Math.ceil(request.steps / everySteps);
    const heads = sample.layers.length * sample.kvHeads.length;
    if (heads * (macsPerHead + scored * macsPerTriple) <= budgetMacs) return sample;
  }
  if (sample === undefined) throw new SimError('invariant-broken', 'the sampling ladder is empty');
  return sample;
};
