/**
 * One policy on a small random trace, for tests that hold it to a plain re-implementation: what every query head
 * attended to in every step, the demands that follow, and the trace and world to compute both again.
 */

import { type LayerRecord, replayPolicies } from '../sim/decode/replay.ts';
import { everyStep } from '../sim/decode/step-sample.ts';
import { createPolicy } from '../sim/policy/create-policy.ts';
import { findPolicy } from '../sim/policy/find-policy.ts';
import type { Policy, World } from '../sim/policy/policy.ts';
import type { AttentionTrace, AttentionTraceShape } from '../sim/trace/attention-trace.ts';
import { createRandomTrace } from '../sim/trace/random-trace.ts';
import { worldOf } from './policy-cases.ts';
import { probe } from './policy-probe.ts';

export interface PolicyRun {
  readonly trace: AttentionTrace;
  readonly world: World;
  readonly policy: Policy;
  /** [step][KV head][query head of the group] → attended positions, ascending. */
  readonly attended: readonly (readonly (readonly (readonly number[])[])[])[];
  /** Demands and residency of the layer, means over the KV heads. */
  readonly record: LayerRecord;
  /** Mean over query heads and steps. */
  readonly outputError: number;
}

export interface RunRequest {
  readonly shape: Omit<AttentionTraceShape, 'layers' | 'recordedLayers'>;
  readonly seed?: number;
  /** What the trace holds beside random rows, or has instead of them. */
  readonly extra?: Partial<AttentionTrace>;
  readonly world?: Partial<World>;
}

export const runPolicy = (
  name: string,
  config: Readonly<Record<string, unknown>>,
  { shape: given, seed = 5, extra = {}, world: known = {} }: RunRequest,
): PolicyRun => {
  const shape = { ...given, layers: 1, recordedLayers: [0] };
  const trace = { ...createRandomTrace({ shape, seed }), ...extra };
  const world = { ...worldOf(shape), ...known };
  const policy = createPolicy(findPolicy(name), config, world);
  const { steps } = shape;
  const marks = probe({ policy, world, trace, layer: 0, steps, after: () => {} });
  const attended = marks.map((heads) =>
    heads.map((row) =>
      Array.from({ length: world.groupSize }, (_, g) =>
        [...row.keys()].filter((token) => ((row[token] >> g) & 1) === 1),
      ),
    ),
  );
  const kvHeads = Array.from({ length: shape.kvHeads }, (_, head) => head);
  const sample = { layers: [0], kvHeads, ...everyStep };
  const [{ records, quality }] = replayPolicies({ trace, world, sample, steps, seed: 1, policies: [policy] });
  const record = records.get(0);
  if (record === undefined) throw new Error('layer 0 was not replayed');
  const outputError = quality.outputError.reduce((a, b) => a + b, 0) / quality.outputError.length;
  return { trace, world, policy, attended, record, outputError };
};

/** Row `token` of a matrix with `width` columns. */
export const rowOf = (matrix: Float32Array, token: number, width: number): number[] => [
  ...matrix.subarray(token * width, (token + 1) * width),
];

export const dotOf = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((sum, x, i) => sum + x * b[i], 0);

export const sumOf = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
