/**
 * Measuring beside the replay: exact attention is computed once per (layer, head, step), some steps ahead, and every
 * policy's choice is held against it. Policies see nothing of this, save what `observe` is for.
 */
import type { HeadView, World } from '../policy/policy.ts';
import { FutureAttention } from '../quality/admission.ts';
import { attendSteps, createExactSteps, type ExactSteps } from '../quality/exact-attention.ts';
import { measureGroup } from '../quality/measure.ts';
import { MeasureRoom } from '../quality/measure-room.ts';
import { HeadRecorder, type QualityRecorder } from '../quality/recorder.ts';
import type { AttentionTrace } from '../trace/attention-trace.ts';
import type { LayerReplay } from './head-replay.ts';
import type { Sample } from './sampling.ts';

/** Query rows whose exact attention is computed in one pass over the keys, and the most memory that it may take. */
const ROWS_TOGETHER = 64;
const EXACT_BYTES = 256 * 2 ** 20;

/** Room for all heads of a layer and some steps ahead; serves one layer after another. */
export interface MeasuringRoom {
  readonly exact: readonly ExactSteps[];
  readonly measure: MeasureRoom;
  /** Per head, what the layer's later queries attended to so far. */
  future: readonly FutureAttention[];
}

/** One policy on one layer, and what is recorded of it. */
export interface MeasuredRun {
  readonly replay: LayerReplay;
  readonly quality: QualityRecorder;
  readonly heads: readonly HeadRecorder[];
}

export const createRoom = (heads: number, { groupSize, maxTokens, headDim }: World): MeasuringRoom => {
  const fitting = Math.floor(EXACT_BYTES / (heads * groupSize * maxTokens * 4));
  const steps = Math.max(1, Math.min(Math.floor(ROWS_TOGETHER / groupSize), fitting));
  return {
    exact: Array.from({ length: heads }, () => createExactSteps(steps, groupSize, maxTokens, headDim)),
    measure: new MeasureRoom(groupSize, maxTokens, headDim),
    future: [],
  };
};

/** A layer begins. */
export const startMeasuring = (room: MeasuringRoom, { promptTokens }: World): void => {
  room.future = room.exact.map(() => new FutureAttention(promptTokens));
};

/** The prompt of a layer is placed: from here on its policy is measured. */
export const measureRun = (
  replay: LayerReplay,
  quality: QualityRecorder,
  { promptTokens }: World,
  { evidenceTokens = [] }: AttentionTrace,
): MeasuredRun => ({
  replay,
  quality,
  heads: replay.heads.map(
    ({ cache }) => new HeadRecorder(quality, cache.place, promptTokens, evidenceTokens),
  ),
});

/** Exact attention of the measured steps from `step` on, as many as there is room for. */
export const attendAhead = (
  {
    trace,
    world,
    sample,
    steps,
  }: {
    readonly trace: AttentionTrace;
    readonly world: World;
    readonly sample: Sample;
    readonly steps: number;
  },
  layer: number,
  step: number,
  heads: readonly HeadView[],
  { exact }: MeasuringRoom,
): void => {
  const wanted: number[] = [];
  for (let at = step; at < steps && wanted.length < exact[0].steps.length; at += sample.everySteps)
    wanted.push(at);
  heads.forEach(({ kvHead, keys, values }, at) => {
    const queries = wanted.map((s) => trace.queries(layer, s, kvHead));
    const lengths = wanted.map((s) => world.promptTokens + s + 1);
    attendSteps(exact[at], queries, keys, values, world.headDim, lengths);
  });
};

/** Measures all policies' selections of a step, head by head, so that they share what is known of the head. */
export const measureStep = (
  runs: readonly MeasuredRun[],
  step: number,
  ahead: number,
  queries: readonly Float32Array[],
  { exact: exactSteps, measure, future }: MeasuringRoom,
  headDim: number,
): void => {
  for (let at = 0; at < queries.length; at++) {
    const exact = exactSteps[at].steps[ahead];
    measure.forget();
    future[at].add(exact);
    for (const { replay, quality, heads } of runs) {
      const { keys, values, cache } = replay.heads[at];
      const selection = replay.selections[at];
      const coded = replay.coded[at];
      const input = {
        exact,
        selection,
        queries: queries[at],
        headDim,
        keys,
        values,
        decodedKeys: coded.keys.decodedIn(selection),
        decodedValues: coded.values.decodedIn(selection),
        codedValues: coded.values.isCoded,
      };
      measureGroup(input, measure);
      measure.results.forEach((result, g) => {
        quality.add(step, result, exact, g, measure.truth);
      });
      heads[at].add(exact, selection, cache.place, cache.liveTokens);
    }
  }
};

/** The last step of a layer was measured. */
export const finishLayer = (
  runs: readonly MeasuredRun[],
  layer: number,
  trace: AttentionTrace,
  { future }: MeasuringRoom,
): void => {
  for (const { replay, heads } of runs) {
    replay.heads.forEach(({ kvHead, cache }, at) => {
      const gate = trace.has('gate', layer) ? trace.learnedScores('gate', layer, kvHead) : null;
      heads[at].finish(cache.place, future[at], gate);
    });
  }
};
