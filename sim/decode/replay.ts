/**
 * The replay: policies side by side over one attention trace, layer by layer. Exact attention is computed once per
 * (layer, head, step) and shared; each policy's choices become demands (for the lowering) and quality samples.
 */
import { SimError } from '../error.ts';
import type { Policy, World } from '../policy/policy.ts';
import { attendExactly, createExactAttention, type ExactAttention } from '../quality/exact-attention.ts';
import { type HeadQuality, measureHead } from '../quality/measure.ts';
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
): Float32Array | null => {
  if (!trace.has('prefillMass', layer)) return null;
  const mass = trace.prefillMass(layer);
  const n = world.promptTokens;
  const sum = new Float32Array(n);
  for (let g = 0; g < world.groupSize; g++) {
    const at = (kvHead * world.groupSize + g) * n;
    for (let i = 0; i < n; i++) sum[i] += mass[at + i];
  }
  return sum;
};

interface LayerRun {
  readonly replay: LayerReplay;
  readonly record: LayerRecord;
  readonly quality: QualitySamples;
}

const startLayer = (request: ReplayRequest, layer: number, runs: readonly PolicyReplay[]): LayerRun[] => {
  const { trace, world, sample, seed } = request;
  const heads = sample.kvHeads.map((kvHead) => ({
    kvHead,
    keys: trace.keys(layer, kvHead),
    values: trace.has('v', layer) ? trace.values(layer, kvHead) : null,
  }));
  return runs.map(({ policy, records, quality }) => {
    const replay = new LayerReplay(policy, world, layer, heads, seed);
    const prefill = replay.prefill(
      (head) => (trace.has('qprompt', layer) ? trace.promptQueries(layer, sample.kvHeads[head]) : null),
      (head) => promptMassOf(trace, layer, sample.kvHeads[head], world),
    );
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

const measureStep = (
  run: LayerRun,
  exact: readonly ExactAttention[],
  queries: readonly Float32Array[],
  scratch: Float64Array,
  out: HeadQuality,
): void => {
  const { replay, quality } = run;
  replay.heads.forEach((head, at) => {
    const input = {
      exact: exact[at],
      selection: replay.selections[at],
      queries: queries[at],
      headDim: exact[at].valueDim,
      values: head.values,
      decoded: head.values === null ? [] : replay.decodedBlocks(at),
    };
    for (let g = 0; g < exact[at].groupSize; g++) {
      measureHead(input, g, replay.isCoded[at], scratch, out);
      quality.massRecall.push(out.massRecall);
      quality.topkRecall.push(out.topkRecall);
      if (out.outputError >= 0) quality.outputError.push(out.outputError);
    }
  });
};

const replayLayer = (
  request: ReplayRequest,
  layer: number,
  runs: readonly PolicyReplay[],
  report: (share: number) => void,
): void => {
  const { trace, world, sample, steps } = request;
  const layerRuns = startLayer(request, layer, runs);
  if (layerRuns.length === 0) return;
  const { heads } = layerRuns[0].replay;
  const exact = heads.map(() => createExactAttention(world.groupSize, world.maxTokens, world.headDim));
  const scratch = new Float64Array(world.headDim);
  const out: HeadQuality = { massRecall: 0, topkRecall: 0, outputError: 0, tokens: 0 };
  for (let step = 0; step < steps; step++) {
    for (const { replay, record } of layerRuns) record.appends.push(replay.append());
    const isScored = step % sample.everySteps === 0;
    const queries = isScored ? heads.map((head) => trace.queries(layer, step, head.kvHead)) : [];
    const length = world.promptTokens + step + 1;
    for (let at = 0; at < queries.length; at++) {
      attendExactly(exact[at], queries[at], heads[at].keys, heads[at].values, world.headDim, length);
    }
    for (const run of layerRuns) {
      run.record.choices.push(
        isScored ? run.replay.select(step, (head) => queries[head]) : run.replay.repeat(),
      );
      run.record.residency.push(run.replay.residency());
      if (isScored) measureStep(run, exact, queries, scratch, out);
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
  sample.layers.forEach((layer, at) => {
    // A layer that a policy leaves dense says nothing about its choices, unless there is no other.
    const choosing = replays.filter(
      ({ policy }) => !policy.isDenseLayer(layer) || sample.layers.every((l) => policy.isDenseLayer(l)),
    );
    replayLayer(request, layer, choosing, (share) =>
      request.onProgress?.((at + share) / sample.layers.length),
    );
  });
  return replays;
};
