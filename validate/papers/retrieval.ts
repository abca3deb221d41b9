/**
 * How well an index finds what attention looks at while a long answer grows: recall@100 over the decode steps of a recorded
 * trace. The policy is asked with the mean query of each group, and held against exact attention of the same query, so
 * that its index is judged and no reducer of query heads. ParisKV (arXiv 2602.07721), figure 1a.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { replayPolicies } from '../../sim/decode/replay.ts';
import { mean } from '../../sim/engine/stats.ts';
import { SimError } from '../../sim/error.ts';
import { createPolicy } from '../../sim/policy/create-policy.ts';
import { findPolicy } from '../../sim/policy/find-policy.ts';
import { meanQuery } from '../../sim/policy/group-rows.ts';
import type { AttentionTrace } from '../../sim/trace/attention-trace.ts';
import { windowTrace } from '../../sim/trace/window.ts';
import { openAttentionFile } from '../../traces/attention/node-file.ts';
import { packageRoot } from '../../traces/package-root.ts';
import { worldOf } from '../attention/outcomes.ts';
import type { RecallMetric } from './metrics.ts';
import type { Setup } from './schema.ts';

/** Ratios, 0..1. */
export type Recall = Readonly<Record<RecallMetric, number>>;

/** One step in so many is measured; an index has no memory of what it was asked. */
const EVERY_STEPS = 64;
const STRETCH_STEPS = 1000;
const SEED = 1;

/** The trace of a model whose KV heads have one query head each: the mean of their group. */
const askedOnce = (trace: AttentionTrace): AttentionTrace => {
  const { shape } = trace;
  const group = { groupSize: shape.heads / shape.kvHeads, headDim: shape.headDim };
  return {
    ...trace,
    shape: { ...shape, heads: shape.kvHeads },
    has: (field, layer) => (field === 'k' || field === 'q') && trace.has(field, layer),
    queries: (layer, step, kvHead) => Float32Array.from(meanQuery(trace.queries(layer, step, kvHead), group)),
  };
};

/** Recall@100 of a policy on `trace`, by decode step: [measured steps, ascending][layers × KV heads]. */
export const recallBySteps = (
  { policy: { name, config }, steps }: Pick<Setup, 'policy' | 'steps'>,
  trace: AttentionTrace,
): ReadonlyMap<number, readonly number[]> => {
  const asked = askedOnce(trace);
  const { recordedLayers: layers, kvHeads: count } = asked.shape;
  const kvHeads = Array.from({ length: count }, (_, kvHead) => kvHead);
  const everySteps = Math.min(EVERY_STEPS, steps);
  const world = worldOf({ trace: asked, steps, layers });
  const policy = createPolicy(findPolicy(name), config, world);
  const bySteps = new Map<number, number[]>();
  for (const layer of layers) {
    const sample = { layers: [layer], kvHeads, everySteps, leadSteps: 0 };
    const [{ quality }] = replayPolicies({
      trace: asked,
      world,
      sample,
      steps,
      seed: SEED,
      policies: [policy],
    });
    quality.recallAt100.forEach((recall, at) => {
      const step = Math.floor(at / count) * everySteps;
      bySteps.set(step, [...(bySteps.get(step) ?? []), recall]);
    });
  }
  return bySteps;
};

/** Means over the run and over its ends. Throws SimError or TraceError where set-up and trace do not fit. */
export const measureRecall = (setup: Setup): Recall => {
  const path = fileURLToPath(
    new URL(`traces/samples/long-decode/${setup.attention}.safetensors`, packageRoot()),
  );
  if (!existsSync(path))
    throw new SimError(
      'invalid-input',
      `attention: expected a trace of traces/samples/long-decode, found ${setup.attention}`,
    );
  const file = openAttentionFile(path);
  try {
    const trace = windowTrace(file, setup.contextTokens, setup.steps);
    const bySteps = recallBySteps(setup, trace);
    const meanOf = (from: number, to: number): number =>
      mean([...bySteps].flatMap(([step, recalls]) => (step >= from && step < to ? recalls : [])));
    return {
      'recall-at-100': meanOf(0, setup.steps),
      'recall-at-100-first-1k': meanOf(0, STRETCH_STEPS),
      'recall-at-100-last-1k': meanOf(setup.steps - STRETCH_STEPS, setup.steps),
    };
  } finally {
    file.close();
  }
};
