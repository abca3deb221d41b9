/**
 * What policies make of an attention trace: mass recall, top-k recall and KV bytes a step of five policies at several
 * token budgets, replayed by the simulator's own code. The yardstick that a synthetic trace is held to.
 */
import { replayPolicies } from '../../sim/decode/replay.ts';
import type { Sample } from '../../sim/decode/sampling.ts';
import { mean } from '../../sim/engine/stats.ts';
import { createPolicy } from '../../sim/policy/create-policy.ts';
import { findPolicy } from '../../sim/policy/find-policy.ts';
import type { Policy, World } from '../../sim/policy/policy.ts';
import { type AttentionTrace, traceFields } from '../../sim/trace/attention-trace.ts';

export const outcomePolicies = ['streaming-llm', 'snapkv', 'quest', 'ttkv', 'pariskv'] as const;
export type OutcomePolicy = (typeof outcomePolicies)[number];

const defaultBudgets: readonly number[] = [128, 256, 512, 1024, 2048];

/** Bytes of one K or V row: half precision. */
const elementBytes = 2;

/** One policy at one budget, averaged over the looked-at layers, heads and steps. */
export interface OutcomeCell {
  readonly policy: OutcomePolicy;
  readonly budgetTokens: number;
  readonly massRecall: number;
  readonly topkRecall: number;
  /** KV bytes a step of one KV head: read in HBM and fetched over the link. */
  readonly kvBytes: number;
  /** The part that crosses the link. */
  readonly linkBytes: number;
  /** Mass recall of each looked-at layer. */
  readonly layerRecall: readonly number[];
}

export interface OutcomeRequest {
  readonly trace: AttentionTrace;
  readonly layers: readonly number[];
  readonly kvHeads: readonly number[];
  /** Decode steps replayed, and every how many of them is measured. */
  readonly steps: number;
  readonly everySteps: number;
  readonly budgets?: readonly number[];
  readonly seed?: number;
  readonly onProgress?: ((share: number) => void) | undefined;
}

/** Quest's pages live in DRAM, so that its traffic shows how far choices persist. */
const own: Partial<Record<OutcomePolicy, Record<string, unknown>>> = { quest: { tier: 'dram' } };

/** A policy with its parameters at `budget` tokens. All layers are replayed: no policy keeps dense ones. */
function policyAt(name: OutcomePolicy, budget: number, world: World): Policy {
  const plugin = findPolicy(name);
  return createPolicy(plugin, { ...plugin.atBudget?.(budget, world), ...own[name] }, world);
}

/** What policies know of a trace whose whole prompt is in the cache, in half precision. */
export function worldOf({ trace, steps, layers }: Pick<OutcomeRequest, 'trace' | 'steps' | 'layers'>): World {
  const { shape } = trace;
  const rowBytes = shape.headDim * elementBytes;
  return {
    layers: shape.layers,
    heads: shape.heads,
    kvHeads: shape.kvHeads,
    groupSize: shape.heads / shape.kvHeads,
    headDim: shape.headDim,
    kBytesPerToken: rowBytes,
    vBytesPerToken: rowBytes,
    promptTokens: shape.promptTokens,
    maxTokens: shape.promptTokens + steps,
    fields: new Set(traceFields.filter((field) => layers.every((layer) => trace.has(field, layer)))),
    rope: trace.rope ?? null,
  };
}

interface Tally {
  readonly massRecall: number[];
  readonly topkRecall: number[];
  readonly kvBytes: number[];
  readonly linkBytes: number[];
  readonly layerRecall: number[];
}

const emptyTally = (): Tally => ({
  massRecall: [],
  topkRecall: [],
  kvBytes: [],
  linkBytes: [],
  layerRecall: [],
});

/** Replays every policy at every budget over the chosen layers, heads and steps; cells by policy, then budget. */
export function measureOutcomes(request: OutcomeRequest): readonly OutcomeCell[] {
  const { trace, layers, kvHeads, steps, everySteps, seed = 1 } = request;
  const world = worldOf(request);
  const budgets = (request.budgets ?? defaultBudgets).filter((budget) => budget < trace.shape.promptTokens);
  const plans = outcomePolicies.flatMap((policy) =>
    budgets.map((budget) => ({
      policy,
      budget,
      built: policyAt(policy, budget, world),
      tally: emptyTally(),
    })),
  );
  layers.forEach((layer, at) => {
    const sample: Sample = { layers: [layer], kvHeads, everySteps, leadSteps: Math.min(1, everySteps - 1) };
    const policies = plans.map(({ built }) => built);
    const replays = replayPolicies({ trace, world, sample, steps, seed, policies });
    replays.forEach(({ quality, records, policy }, index) => {
      const { tally } = plans[index];
      // Not spread: a long run has more samples than a call may have arguments.
      for (const recall of quality.massRecall) tally.massRecall.push(recall);
      for (const recall of quality.topkRecall) tally.topkRecall.push(recall);
      tally.layerRecall.push(mean(quality.massRecall));
      const bytes = policy.codecs.map(
        (codec) => codec.kBytesPerToken(world.headDim) + codec.vBytesPerToken(world.headDim),
      );
      const forms = [world.kBytesPerToken + world.vBytesPerToken, ...bytes];
      const bytesOf = (tokens: readonly number[]): number =>
        tokens.reduce((sum, count, form) => sum + count * forms[form], 0);
      for (const { choices } of records.values()) {
        const linkBytes = mean(
          choices.map(({ fetchTokens, refillTokens }) => bytesOf(fetchTokens) + bytesOf(refillTokens)),
        );
        tally.linkBytes.push(linkBytes);
        tally.kvBytes.push(linkBytes + mean(choices.map((choice) => bytesOf(choice.residentTokens))));
      }
    });
    request.onProgress?.((at + 1) / layers.length);
  });
  return plans.map(({ policy, budget, tally }) => ({
    policy,
    budgetTokens: budget,
    massRecall: mean(tally.massRecall),
    topkRecall: mean(tally.topkRecall),
    kvBytes: mean(tally.kvBytes),
    linkBytes: mean(tally.linkBytes),
    layerRecall: tally.layerRecall,
  }));
}
