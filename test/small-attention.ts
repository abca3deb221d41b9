/**
 * A small random trace and what independent checks of policies need beside it: softmax in doubles with Math.exp over
 * any tokens, and what every query head attended to in every step.
 */
import { type LayerRecord, replayPolicies } from '../sim/decode/replay.ts';
import { everyStep } from '../sim/decode/step-sample.ts';
import { createPolicy } from '../sim/policy/create-policy.ts';
import { findPolicy } from '../sim/policy/find-policy.ts';
import type { Policy, World } from '../sim/policy/policy.ts';
import type { AttentionTrace } from '../sim/trace/attention-trace.ts';
import { createRandomTrace } from '../sim/trace/random-trace.ts';

/** Prompt queries that a random trace records. */
export const WINDOW = 16;
export const GROUP = 2;
export const DIM = 16;
/** Bytes of K and of V of one token. */
export const ROW_BYTES = 2 * DIM;

export interface SmallShape {
  readonly layers: number;
  readonly kvHeads: number;
  readonly promptTokens: number;
  readonly steps: number;
  readonly seed: number;
  /** Column sums for the trace to have: any numbers, row-major [heads, promptTokens]. */
  readonly prefillMass?: Float32Array;
}

export interface SmallRun {
  /** [layer][step][KV head][query head of the group] → attended positions; for policies that learn. */
  readonly attended: number[][][][][];
  /** By layer. */
  readonly records: readonly LayerRecord[];
  readonly policy: Policy;
}

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

export const createSmall = ({ layers, kvHeads, promptTokens, steps, seed, prefillMass }: SmallShape) => {
  const shape = {
    layers,
    heads: kvHeads * GROUP,
    kvHeads,
    headDim: DIM,
    promptTokens,
    steps,
    recordedLayers: range(layers),
  };
  const random = createRandomTrace({ shape, seed });
  const trace: AttentionTrace =
    prefillMass === undefined
      ? random
      : {
          ...random,
          has: (field, layer) => field === 'prefillMass' || random.has(field, layer),
          prefillMass: () => prefillMass,
        };
  const world: World = {
    layers,
    heads: shape.heads,
    kvHeads,
    groupSize: GROUP,
    headDim: DIM,
    kBytesPerToken: ROW_BYTES,
    vBytesPerToken: ROW_BYTES,
    promptTokens,
    maxTokens: promptTokens + steps,
    fields: new Set([
      'k',
      'v',
      'q',
      'qprompt',
      ...(prefillMass === undefined ? [] : (['prefillMass'] as const)),
    ]),
  };

  /** Softmax of one query over some tokens, in doubles. */
  const softmaxOver = (
    q: Float32Array,
    layer: number,
    kvHead: number,
    tokens: readonly number[],
  ): Map<number, number> => {
    const keys = trace.keys(layer, kvHead);
    const logits = tokens.map((token) => {
      let dot = 0;
      for (let c = 0; c < DIM; c++) dot += q[c] * keys[token * DIM + c];
      return dot / Math.sqrt(DIM);
    });
    const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
    const weights = logits.map((logit) => Math.exp(logit - largest));
    const sum = weights.reduce((a, b) => a + b, 0);
    return new Map(tokens.map((token, i) => [token, weights[i] / sum]));
  };

  const run = (name: string, config: Record<string, unknown>, replayed = range(kvHeads)): SmallRun => {
    const policy = createPolicy(findPolicy(name), config, {
      ...world,
      replayed: { layers: shape.recordedLayers, kvHeads: replayed },
    });
    const attended: number[][][][][] = range(layers).map(() => []);
    const watched: Policy = {
      ...policy,
      layer(layer) {
        const hooks = policy.layer(layer);
        return {
          ...hooks,
          observe(view, probabilities) {
            const rows = probabilities.map((p) =>
              range(GROUP).map((g) => range(view.length).filter((token) => p[g * view.length + token] > 0)),
            );
            attended[layer].push(rows);
            hooks.observe?.(view, probabilities);
          },
        };
      },
    };
    const sample = { layers: shape.recordedLayers, kvHeads: replayed, ...everyStep };
    const [{ records }] = replayPolicies({ trace, world, sample, steps, seed: 1, policies: [watched] });
    return { attended, records: [...records.values()], policy };
  };

  return {
    trace,
    world,
    run,
    softmaxOver,
    promptTokens: (): number[] => range(promptTokens),
    queryOf: (layer: number, step: number, kvHead: number, g: number): Float32Array =>
      trace.queries(layer, step, kvHead).subarray(g * DIM, (g + 1) * DIM),
    /** Query w of the last WINDOW of the prompt, and the tokens that it sees. */
    promptQueryOf: (layer: number, kvHead: number, w: number, g: number) => ({
      q: trace.promptQueries(layer, kvHead).q.subarray((w * GROUP + g) * DIM, (w * GROUP + g + 1) * DIM),
      length: promptTokens - (WINDOW - 1 - w),
    }),
  };
};
