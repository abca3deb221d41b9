/**
 * The replay: policies side by side over one attention trace, layer by layer. Each policy's choices become
 * demands (for the lowering) and quality samples (measuring.ts).
 */
import { SimError } from '../error.ts';
import type { HeadRows, OtherLayer, Policy, PromptView, WindowQueries, World } from '../policy/policy.ts';
import { QualityRecorder } from '../quality/recorder.ts';
import type { AttentionTrace } from '../trace/attention-trace.ts';
import type { LayerDemand, LayerResidency } from './demand.ts';
import type { HeadChoice } from './head-choice.ts';
import { LayerReplay } from './head-replay.ts';
import {
  attendAhead,
  createRoom,
  finishLayer,
  type MeasuredRun,
  type MeasuringRoom,
  measureRun,
  measureStep,
  startMeasuring,
} from './measuring.ts';
import type { Sample } from './sampling.ts';
import { countedStep, isAdjacent, isChosen, isMeasured } from './step-sample.ts';

/** What one policy asked of one layer over the whole run. */
export interface LayerRecord {
  readonly prefill: LayerDemand;
  readonly afterPrefill: LayerResidency;
  /** Per step: what the append asked for, and what the choice asked for. */
  readonly appends: LayerDemand[];
  readonly choices: LayerDemand[];
  readonly residency: LayerResidency[];
}

export interface PolicyReplay {
  readonly policy: Policy;
  readonly records: Map<number, LayerRecord>;
  readonly quality: QualityRecorder;
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
  /** Called with what the heads of a layer attend to, in each step whose choice counts. */
  readonly onChoice?: (policy: Policy, layer: number, step: number, choices: readonly HeadChoice[]) => void;
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

interface LayerRun extends MeasuredRun {
  readonly policy: Policy;
  readonly record: LayerRecord;
}

const startLayer = (request: ReplayRequest, layer: number, runs: readonly PolicyReplay[]): LayerRun[] => {
  const { trace, world, seed } = request;
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
    return { ...measureRun(replay, quality, world, trace), policy, record };
  });
};

/** What a policy may see of other layers while one is replayed: rows of those that the trace records. */
const createOtherLayers = ({ trace, sample }: ReplayRequest) => {
  const keys = new Map<string, Float32Array>();
  const keysOf = (layer: number, kvHead: number): Float32Array => {
    const name = `${layer} ${kvHead}`;
    const known = keys.get(name) ?? trace.keys(layer, kvHead);
    keys.set(name, known);
    return known;
  };
  return (step: number) =>
    (layer: number): OtherLayer | null =>
      trace.has('k', layer) && trace.has('q', layer)
        ? {
            keys: (head) => keysOf(layer, sample.kvHeads[head]),
            queries: (head) => trace.queries(layer, step, sample.kvHeads[head]),
            promptQueries: (head) =>
              trace.has('qprompt', layer) ? trace.promptQueries(layer, sample.kvHeads[head]) : null,
          }
        : null;
};

/** Lets a policy choose where the sample says so, and records what counts as its choice of the step. */
const choose = (
  { replay, record, heads }: LayerRun,
  sample: Sample,
  step: number,
  queries: readonly Float32Array[],
  other: (layer: number) => OtherLayer | null,
): void => {
  const counted = countedStep(sample, step);
  if (isChosen(sample, step)) {
    const demand = replay.select(step, (head) => queries[head], other);
    if (counted === step) record.choices.push(demand);
    replay.heads.forEach(({ cache }, at) => {
      heads[at].choose(replay.selections[at], cache.liveTokens, isAdjacent(sample, step));
    });
  }
  if (counted < step) record.choices.push(record.choices[counted]);
  record.residency.push(replay.residency());
};

const replayLayer = (
  request: ReplayRequest,
  layer: number,
  runs: readonly PolicyReplay[],
  room: MeasuringRoom,
  report: (share: number) => void,
): void => {
  const { trace, world, sample, steps } = request;
  const layerRuns = startLayer(request, layer, runs);
  if (layerRuns.length === 0) return;
  const [first] = layerRuns;
  const { heads } = first.replay;
  const stepsAhead = room.exact[0].steps.length;
  const otherLayers = createOtherLayers(request);
  startMeasuring(room, world);
  for (let step = 0, measured = 0; step < steps; step++) {
    for (const { replay, record } of layerRuns) record.appends.push(replay.append());
    const queries = isChosen(sample, step)
      ? heads.map((head) => trace.queries(layer, step, head.kvHead))
      : [];
    const other = otherLayers(step);
    const { onChoice } = request;
    const isOwn = countedStep(sample, step) === step;
    for (const run of layerRuns) {
      const { replay, policy } = run;
      replay.onChoice = onChoice && isOwn ? (choices) => onChoice(policy, layer, step, choices) : null;
      choose(run, sample, step, queries, other);
    }
    if (isMeasured(sample, step)) {
      const ahead = measured++ % stepsAhead;
      if (ahead === 0) attendAhead(request, layer, step, heads, room);
      measureStep(layerRuns, step, ahead, queries, room, world.headDim);
      for (const { replay } of layerRuns) {
        replay.observe(
          step,
          (head) => queries[head],
          other,
          (head) => room.exact[head].steps[ahead],
        );
      }
    }
    report((step + 1) / steps);
  }
  finishLayer(layerRuns, layer, trace, room);
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
      quality: new QualityRecorder(),
    }),
  );
  const room = createRoom(sample.kvHeads.length, world);
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
