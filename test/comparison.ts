/**
 * A made-up but plausible comparison (8B model, 128K context, one 80 GB GPU) for the tests of the pictures.
 * Numbers are shaped like real ones, not predicted by anything. Deterministic.
 */
import type { StreamName } from '../sim/program/operation.ts';
import type { CompareResult, PolicyResult } from '../sim/result.ts';
import type { Timeline } from '../sim/timing/timeline.ts';
import type { PolicyTimeline } from '../viz/payload.ts';

const kinds = ['dense', 'score', 'select', 'fetch', 'decode', 'attend', 'merge', 'append', 'spill', 'wait'];
const streams: readonly StreamName[] = ['compute', 'h2d', 'd2h'];

interface LayerPlan {
  readonly attendNs: number;
  readonly scoreNs?: number;
  readonly fetchBytes?: number;
  readonly decodeNs?: number;
  readonly spillBytes?: number;
}

const GB = 1e9;
const linkBytesPerNs = 52;
const hbmBytesPerNs = 2900;

type Row = readonly [
  kind: string,
  stream: number,
  layer: number,
  step: number,
  start: number,
  end: number,
  b: number,
];

const stepRows = (rows: Row[], plan: LayerPlan, layers: number, step: number, from: number): number => {
  let computeNs = from;
  let h2dNs = from;
  let d2hNs = from;
  const run = (kind: string, layer: number, durationNs: number, sizeBytes: number): void => {
    rows.push([kind, 0, layer, step, computeNs, computeNs + durationNs, sizeBytes]);
    computeNs += durationNs;
  };
  for (let layer = 0; layer < layers; layer++) {
    run('dense', layer, 36_000 + ((step * 31 + layer * 17) % 7) * 150, 84e6);
    run('append', layer, 2_100, 4096);
    if (plan.scoreNs !== undefined) {
      run('score', layer, plan.scoreNs, plan.scoreNs * 1400);
      run('select', layer, 6_200, 0);
    }
    if (plan.fetchBytes !== undefined) {
      const begin = plan.scoreNs === undefined ? h2dNs : Math.max(h2dNs, computeNs);
      h2dNs = begin + 2_000 + plan.fetchBytes / linkBytesPerNs;
      rows.push(['fetch', 1, layer, step, begin, h2dNs, plan.fetchBytes]);
      if (h2dNs > computeNs) {
        rows.push(['wait', 0, layer, step, computeNs, h2dNs, 0]);
        computeNs = h2dNs;
      }
    }
    if (plan.decodeNs !== undefined) run('decode', layer, plan.decodeNs, plan.decodeNs * 1800);
    run('attend', layer, plan.attendNs, plan.attendNs * hbmBytesPerNs);
    if (plan.decodeNs !== undefined) run('merge', layer, 2_600, 262_144);
    run('dense', layer, 88_000, 264e6);
    if (plan.spillBytes !== undefined) {
      const begin = Math.max(d2hNs, computeNs);
      d2hNs = begin + 1_800 + plan.spillBytes / linkBytesPerNs;
      rows.push(['spill', 2, layer, step, begin, d2hNs, plan.spillBytes]);
    }
  }
  run('dense', -1, 370_000, 1.05e9);
  return Math.max(computeNs, h2dNs, d2hNs);
};

/** A timeline of `steps` steps over `layers` layers. */
export const fixtureTimeline = (plan: LayerPlan, layers: number, steps: number): Timeline => {
  const rows: Row[] = [];
  let atNs = 0;
  for (let step = 0; step < steps; step++) atNs = stepRows(rows, plan, layers, step, atNs);
  return {
    kinds,
    streams,
    startNs: Float64Array.from(rows, (row) => row[4]),
    endNs: Float64Array.from(rows, (row) => row[5]),
    kind: Uint8Array.from(rows, (row) => kinds.indexOf(row[0])),
    stream: Uint8Array.from(rows, (row) => row[1]),
    layer: Int16Array.from(rows, (row) => row[2]),
    step: Int32Array.from(rows, (row) => row[3]),
    bytes: Float64Array.from(rows, (row) => row[6]),
  };
};

interface PolicyPlan {
  readonly policy: string;
  readonly plan: LayerPlan;
  readonly bound: string;
  readonly hbmKvBytes: number;
  readonly dramKvBytes: number;
  readonly recall: readonly [mean: number, p5: number, topk: number, outputError: number] | null;
  readonly inputs?: string;
  readonly shortBytes?: number;
}

const kvBytes = 17.18 * GB;
const plans: readonly PolicyPlan[] = [
  {
    policy: 'full',
    plan: { attendNs: 196_000 },
    bound: 'hbm',
    hbmKvBytes: kvBytes,
    dramKvBytes: 0,
    recall: [1, 1, 1, 0],
  },
  {
    policy: 'full-offload',
    plan: { attendNs: 196_000, fetchBytes: kvBytes / 32, spillBytes: 4096 },
    bound: 'h2d',
    hbmKvBytes: 1.07 * GB,
    dramKvBytes: kvBytes,
    recall: [1, 1, 1, 0],
  },
  {
    policy: 'streaming-llm',
    plan: { attendNs: 5_400 },
    bound: 'hbm',
    hbmKvBytes: 0.27 * GB,
    dramKvBytes: 0,
    recall: [0.512, 0.214, 0.183, 0.61],
  },
  {
    policy: 'snapkv',
    plan: { attendNs: 5_600 },
    bound: 'hbm',
    hbmKvBytes: 0.28 * GB,
    dramKvBytes: 0,
    recall: [0.833, 0.561, 0.604, 0.231],
  },
  {
    policy: 'quest',
    plan: { attendNs: 6_100, scoreNs: 14_000 },
    bound: 'hbm',
    hbmKvBytes: 18.25 * GB,
    dramKvBytes: 0,
    recall: [0.936, 0.812, 0.822, 0.094],
  },
  {
    policy: 'quest(placement=dram)',
    plan: { attendNs: 6_100, scoreNs: 14_000, fetchBytes: 8.4e6, spillBytes: 4096 },
    bound: 'h2d',
    hbmKvBytes: 1.34 * GB,
    dramKvBytes: kvBytes,
    recall: [0.936, 0.812, 0.822, 0.094],
  },
  {
    policy: 'ttkv',
    plan: { attendNs: 31_000, fetchBytes: 62e6, decodeNs: 24_000, spillBytes: 131_072 },
    bound: 'h2d',
    hbmKvBytes: 2.62 * GB,
    dramKvBytes: 6.44 * GB,
    recall: [0.998, 0.991, 0.987, 0.021],
  },
  {
    policy: 'pariskv',
    plan: { attendNs: 5_900, scoreNs: 21_000, fetchBytes: 3.1e6, spillBytes: 4096 },
    bound: 'compute',
    hbmKvBytes: 3.9 * GB,
    dramKvBytes: kvBytes,
    recall: [0.957, 0.861, 0.874, 0.068],
    inputs: 'fallback: codebook fitted on the prompt',
  },
  {
    policy: 'wg-kv',
    plan: { attendNs: 88_000 },
    bound: 'hbm',
    hbmKvBytes: 7.9 * GB,
    dramKvBytes: 0,
    recall: null,
    inputs: 'fallback: gate from key norms',
  },
  {
    policy: 'h2o',
    plan: { attendNs: 40_000 },
    bound: 'hbm',
    hbmKvBytes: 68.7 * GB,
    dramKvBytes: 0,
    recall: [0.804, 0.497, 0.571, 0.268],
    shortBytes: 6.31 * GB,
  },
];

const policyResult = (item: PolicyPlan, timeline: Timeline, layers: number, steps: number): PolicyResult => {
  const meanNs = timeline.endNs.reduce((a, b) => Math.max(a, b), 0) / steps;
  const inBytes = (item.plan.fetchBytes ?? 0) * layers;
  const outBytes = (item.plan.spillBytes ?? 0) * layers;
  const operationNs: Record<string, number> = {};
  for (let row = 0; row < timeline.kind.length; row++) {
    const name = timeline.kinds[timeline.kind[row]];
    operationNs[name] = (operationNs[name] ?? 0) + (timeline.endNs[row] - timeline.startNs[row]) / steps;
  }
  const boundary = (sizeBytes: number) => ({
    bytes: sizeBytes * steps,
    bytesPerStep: sizeBytes,
    busyRatio: Math.min(1, sizeBytes / linkBytesPerNs / meanNs),
    prefillBytes: sizeBytes === 0 ? 0 : kvBytes,
  });
  return {
    policy: item.policy,
    fits: item.shortBytes === undefined,
    ...(item.shortBytes === undefined ? {} : { shortBytes: { hbm: item.shortBytes } }),
    prefillNs: 9.1e9,
    stepNs: { mean: meanNs, p50: meanNs * 0.996, p95: meanNs * 1.031, p99: meanNs * 1.052 },
    stepIntervalNs: [meanNs * 0.9, meanNs * 1.12],
    domain: 'calibrated',
    tokensPerS: 1e9 / meanNs,
    bound: { resource: item.bound, share: 0.44 + (item.policy.length % 5) * 0.09 },
    operationNs,
    traffic: {
      'dram->hbm': boundary(inBytes),
      'hbm->dram': boundary(outBytes),
      hbm: {
        readBytesPerStep: item.plan.attendNs * hbmBytesPerNs * layers,
        writeBytesPerStep: 4.2e6 + inBytes,
        weightReadBytesPerStep: 15.01 * GB,
      },
    },
    resident: {
      hbm: { peakBytes: 16.1 * GB + item.hbmKvBytes, kvPeakBytes: item.hbmKvBytes },
      dram: { peakBytes: item.dramKvBytes, kvPeakBytes: item.dramKvBytes },
    },
    quality:
      item.recall === null
        ? null
        : {
            massRecall: { mean: item.recall[0], p5: item.recall[1] },
            topkRecall: item.recall[2],
            outputError: item.recall[3],
            footprint: 0.998,
          },
    inputs: item.inputs ?? 'exact',
    digest: `sha256:${item.policy}`,
  };
};

/** The comparison and its timelines; `steps` and `layers` size the timelines. */
export const fixtureComparison = (
  layers = 32,
  steps = 4,
): { readonly result: CompareResult; readonly timelines: readonly PolicyTimeline[] } => {
  const timelines = plans.map(({ policy, plan }) => ({
    policy,
    timeline: fixtureTimeline(plan, layers, steps),
  }));
  return {
    timelines,
    result: {
      format: 'kvtier.result/1',
      kind: 'compare',
      experiment: {
        model: 'llama-3.1-8b',
        hardware: 'h100-sxm',
        stack: 'default',
        trace: { kind: 'synthetic', preset: 'llama-3.1-8b', spec: { promptTokens: 131_072, steps } },
        contextTokens: 131_072,
        batch: 1,
        steps,
        dense: true,
        policies: plans.map(({ policy }) => ({ label: policy, name: policy, config: { budget: 2048 } })),
        seed: 42,
      },
      seed: 42,
      policies: plans.map((item, i) => policyResult(item, timelines[i].timeline, layers, steps)),
      digest: '9f2c81d04be7a6550f3fd0a17c84f1e2b3d4c5a697887766554433221100ffee',
      notes: [
        'pariskv: codebook fitted on the prompt, the trace has none',
        'wg-kv: gate from key norms; no quality without values',
      ],
    },
  };
};
