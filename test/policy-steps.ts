/**
 * One policy on one KV head of a small random trace, step by step, for tests that work its choices and its traffic out
 * by hand: 600 prompt tokens, 10 steps, 4 query heads of 32 channels.
 */
import { LayerReplay } from '../sim/decode/head-replay.ts';
import { promptOf } from '../sim/decode/replay.ts';
import { createPolicy } from '../sim/policy/create-policy.ts';
import { findPolicy } from '../sim/policy/find-policy.ts';
import type { World } from '../sim/policy/policy.ts';
import { createRandomTrace } from '../sim/trace/random-trace.ts';

const shape = {
  layers: 4,
  heads: 4,
  kvHeads: 1,
  headDim: 32,
  promptTokens: 600,
  steps: 10,
  recordedLayers: [2],
};
/** Bytes of K and V of a token. */
export const ROW_BYTES = 128;
export const GROUP = 4;
const world: World = {
  layers: 4,
  heads: 4,
  kvHeads: 1,
  groupSize: GROUP,
  headDim: 32,
  kBytesPerToken: 64,
  vBytesPerToken: 64,
  promptTokens: 600,
  maxTokens: 610,
  fields: new Set(['k', 'v', 'q', 'qprompt']),
};
const trace = createRandomTrace({ shape, seed: 11 });
export const keys = trace.keys(2, 0);
export const values = trace.values(2, 0);

/** A policy on one head, one step after the other. */
export const start = (name: string, config: Record<string, unknown>) => {
  const policy = createPolicy(findPolicy(name), config, world);
  const rows = [{ kvHead: 0, keys, values }];
  const replay = new LayerReplay(policy, world, 2, rows, 1);
  const prefill = replay.prefill(promptOf({ trace, world, steps: shape.steps }, 2, rows, false));
  let at = 0;
  const step = () => {
    const append = replay.append();
    const q = trace.queries(2, at, 0);
    const demand = replay.select(
      at++,
      () => q,
      () => null,
    );
    const { marks, length } = replay.selections[0];
    /** Attended tokens of one query head. */
    const of = (g: number): number[] =>
      Array.from({ length }, (_, t) => t).filter((t) => (marks[t] >> g) & 1);
    return { append, demand, q, of, length };
  };
  return { policy, replay, cache: replay.heads[0].cache, prefill, step };
};

/** Product of query head g with a row. */
export const dot = (q: Float32Array, g: number, rows: ArrayLike<number>, row: number): number => {
  let sum = 0;
  for (let c = 0; c < 32; c++) sum += q[g * 32 + c] * rows[row * 32 + c];
  return sum;
};
export const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from }, (_, i) => from + i);
export const total = (counts: readonly number[]): number => counts.reduce((a, b) => a + b, 0);
