/**
 * The replay: policies side by side over one attention trace, layer by layer. Exact attention is computed once per
 * (layer, head, step) and shared; each policy's choices become demands (for the lowering) and quality samples.
 */
import { SimError } from '../error.ts';
import type { HeadRows, OtherLayer, Policy, PromptView, WindowQueries, World } from '../policy/policy.ts';
import { attendSteps, createExactSteps, type ExactSteps } from '../quality/exact-attention.ts';
import { MeasureRoom, measureGroup } from '../quality/measure.ts';
import type { AttentionTrace } from '../trace/attention-trace.ts';
import type { LayerDemand, LayerResidency } from './demand.ts';
import { LayerReplay } from './head-replay.ts';
import type { Sample } from './sampling.ts';

/** What one policy asked of one layer over the whole run. */
export interface LayerRecord {
  readonly prefill: LayerDemand;
  readonly afterPrefill: LayerResidency;
  /** Per step: what the append asked for, and what the choice asked for. */
  readonly appends: LayerDemand[];
  readonly choices: LayerDemand[];
  readonly residency: LayerResidency[];
}

export interface QualitySamples {
  readonly massRecall: number[];
  readonly topkRecall: number[];
  readonly outputError: number[];
}

export interface PolicyReplay {
  readonly policy: Policy;
  readonly records: Map<number, LayerRecord>;
  readonly quality: QualitySamples;
}

export interface ReplayRequest {
  readonly trace: AttentionTrace;
  readonly world: World;
  readonly sample: Sample;
  readonly steps: number;
  readonly seed: number;
  readonly policies: readonly Policy[];
  /** Called after each step of each layer with the share done, 0..1. */
  readonly onProgress?: (share: number) => void;
}

const promptMassOf = (
  trace: AttentionTrace,
  layer: number,
  kvHead: number,
  world: World,
  query?: number,
): Float32Array | null => {
  if (!trace.has('prefillMass', layer)) return null;
  const mass = trace.prefillMass(layer);
  const n = world.promptTokens;
  if (query !== undefined) {
    const row = kvHead * world.groupSize + query;
    return mass.subarray(row * n, (row + 1) * n);
  }
  const sum = new Float32Array(n);
  for (let g = 0; g < world.groupSize; g++) {
    const at = (kvHead * world.groupSize + g) * n;
    for (let i = 0; i < n; i++) sum[i] += mass[at + i];
  }
  return sum;
};

type PromptSource = Pick<ReplayRequest, 'trace' | 'world' | 'steps'>;

/** The queries of all decode steps of one KV head, as a window that follows the prompt. */
const futureOf = ({ trace, world, steps }: PromptSource, layer: number, kvHead: number): WindowQueries => {
  const size = world.groupSize * world.headDim;
  const q = new Float32Array(steps * size);
  for (let step = 0; step < steps; step++) q.set(trace.queries(layer, step, kvHead), step * size);
  return { windowTokens: steps, q };
};

const rowsOf = ({ trace, sample }: ReplayRequest, layer: number): readonly HeadRows[] =>
  sample.kvHeads.map((kvHead) => ({
    kvHead,
    keys: trace.keys(layer, kvHead),
    values: trace.has('v', layer) ? trace.values(layer, kvHead) : null,
  }));

/** What a policy may know of a layer's prompt; the queries to come only for an oracle. */
export const promptOf = (
  request: PromptSource,
  layer: number,
  heads: readonly HeadRows[],
  oracle: boolean,
): PromptView => {
  const { trace, world } = request;
  const kvHead = (head: number): number => heads[head].kvHead;
  return {
    layer,
    heads,
    length: world.promptTokens,
    promptQueries: (head) => (trace.has('qprompt', layer) ? trace.promptQueries(layer, kvHead(head)) : null),
    promptMass: (head, query) => promptMassOf(trace, layer, kvHead(head), world, query),
    learnedScores: (field, head) =>
      trace.has(field, layer) ? trace.learnedScores(field, layer, kvHead(head)) : null,
    futureQueries: (head) => (oracle ? futureOf(request, layer, kvHead(head)) : null),
  };
};

/** Lets policies whose layers share a budget see all replayed layers before the first is placed. */
const surveyLayers = (request: ReplayRequest): void => {
  const surveyors = request.policies.filter(({ survey }) => survey !== undefined);
  if (surveyors.length === 0) return;
  for (const layer of request.sample.layers) {
    const heads = rowsOf(request, layer);
    for (const policy of surveyors) {
      if (!policy.isDenseLayer(layer)) policy.survey?.(promptOf(request, layer, heads, policy.oracle));
    }
  }
};

interface LayerRun {
  readonly replay: LayerReplay;
  readonly record: LayerRecord;
  readonly quality: QualitySamples;
}

const startLayer = (request: ReplayRequest, layer: number, runs: readonly PolicyReplay[]): LayerRun[] => {
  const { world, seed } = request;
  const heads = rowsOf(request, layer);
  return runs.map(({ policy, records, quality }) => {
    const replay = new LayerReplay(policy, world, layer, heads, seed);
    const prefill = replay.prefill(promptOf(request, layer, heads, policy.oracle));
    const record: LayerRecord = {
      prefill,
      afterPrefill: replay.residency(),
      appends: [],
      choices: [],
      residency: [],
    };
    records.set(layer, record);
    return { replay, record, quality };
  });
};

/** Query rows whose exact attention is computed in one pass over the keys, and the most memory that it may take. */
const ROWS_TOGETHER = 64;
const EXACT_BYTES = 256 * 2 ** 20;

/** Room for exact attention, of all heads of a layer and some steps ahead; serves one layer after another. */
interface Room {
  readonly exact: readonly ExactSteps[];
  readonly measure: MeasureRoom;
}

const createRoom = ({ sample, world }: ReplayRequest): Room => {
  const { groupSize, maxTokens, headDim } = world;
  const stepBytes = sample.kvHeads.length * groupSize * maxTokens * 4;
  const fitting = Math.floor(EXACT_BYTES / stepBytes);
  const steps = Math.max(1, Math.min(Math.floor(ROWS_TOGETHER / groupSize), fitting));
  return {
    exact: sample.kvHeads.map(() => createExactSteps(steps, groupSize, maxTokens, headDim)),
    measure: new MeasureRoom(groupSize, maxTokens, headDim),
  };
};

/** Exact attention of the scored steps from `step` on, as many as there is room for. Policies never see it. */
const attendAhead = (
  request: ReplayRequest,
  layer: number,
  step: number,
  run: LayerRun,
  room: Room,
): void => {
  const { trace, world, sample, steps } = request;
  const wanted: number[] = [];
  for (let at = step; at < steps && wanted.length < room.exact[0].steps.length; at += sample.everySteps)
    wanted.push(at);
  run.replay.heads.forEach(({ kvHead, keys, values }, at) => {
    const queries = wanted.map((s) => trace.queries(layer, s, kvHead));
    const lengths = wanted.map((s) => world.promptTokens + s + 1);
    attendSteps(room.exact[at], queries, keys, values, world.headDim, lengths);
  });
};

/** Measures all policies' selections of a step, head by head, so that they share what is known of the head. */
const measureStep = (
  runs: readonly LayerRun[],
  ahead: number,
  queries: readonly Float32Array[],
  { exact, measure }: Room,
  headDim: number,
): void => {
  for (let at = 0; at < queries.length; at++) {
    measure.forget();
    for (const { replay, quality } of runs) {
      const { values } = replay.heads[at];
      const selection = replay.selections[at];
      const coded = replay.coded[at];
      const input = {
        exact: exact[at].steps[ahead],
        selection,
        queries: queries[at],
        headDim,
        values,
        decodedKeys: coded.keys.decodedIn(selection),
        decodedValues: coded.values.decodedIn(selection),
        codedValues: coded.values.isCoded,
      };
      measureGroup(input, measure);
      for (const result of measure.results) {
        quality.massRecall.push(result.massRecall);
        quality.topkRecall.push(result.topkRecall);
        if (result.outputError >= 0) quality.outputError.push(result.outputError);
      }
    }
  }
};

/** What a policy may see of other layers in a step: rows of those that the trace records. */
const otherLayers =
  ({ trace, sample }: ReplayRequest, step: number) =>
  (layer: number): OtherLayer | null =>
    trace.has('k', layer) && trace.has('q', layer)
      ? {
          keys: (head) => trace.keys(layer, sample.kvHeads[head]),
          queries: (head) => trace.queries(layer, step, sample.kvHeads[head]),
        }
      : null;

const replayLayer = (
  request: ReplayRequest,
  layer: number,
  runs: readonly PolicyReplay[],
  room: Room,
  report: (share: number) => void,
): void => {
  const { trace, world, sample, steps } = request;
  const layerRuns = startLayer(request, layer, runs);
  if (layerRuns.length === 0) return;
  const [first] = layerRuns;
  const { heads } = first.replay;
  const stepsAhead = room.exact[0].steps.length;
  for (let step = 0, scored = 0; step < steps; step++) {
    for (const { replay, record } of layerRuns) record.appends.push(replay.append());
    const isScored = step % sample.everySteps === 0;
    const ahead = scored % stepsAhead;
    if (isScored && ahead === 0) attendAhead(request, layer, step, first, room);
    const queries = isScored ? heads.map((head) => trace.queries(layer, step, head.kvHead)) : [];
    const other = otherLayers(request, step);
    for (const { replay, record } of layerRuns) {
      record.choices.push(isScored ? replay.select(step, (head) => queries[head], other) : replay.repeat());
      record.residency.push(replay.residency());
    }
    if (isScored) {
      measureStep(layerRuns, ahead, queries, room, world.headDim);
      for (const { replay } of layerRuns) {
        replay.observe(
          step,
          (head) => queries[head],
          other,
          (head) => room.exact[head].steps[ahead],
        );
      }
      scored++;
    }
    report((step + 1) / steps);
  }
};

/** Replays every policy over the sampled layers and heads of the trace. */
export const replayPolicies = (request: ReplayRequest): readonly PolicyReplay[] => {
  const { sample, policies, world, steps } = request;
  if (world.maxTokens !== world.promptTokens + steps)
    throw new SimError('invariant-broken', 'world and steps disagree');
  const replays = policies.map(
    (policy): PolicyReplay => ({
      policy,
      records: new Map(),
      quality: { massRecall: [], topkRecall: [], outputError: [] },
    }),
  );
  const room = createRoom(request);
  surveyLayers(request);
  sample.layers.forEach((layer, at) => {
    // A layer that a policy leaves dense says nothing about its choices, unless there is no other.
    const choosing = replays.filter(
      ({ policy }) => !policy.isDenseLayer(layer) || sample.layers.every((l) => policy.isDenseLayer(l)),
    );
    replayLayer(request, layer, choosing, room, (share) =>
      request.onProgress?.((at + share) / sample.layers.length),
    );
  });
  return replays;
};
