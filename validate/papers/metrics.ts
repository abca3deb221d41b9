/**
 * What papers measure, read off a simulated run. Times come from the timeline, operation by operation, as a paper's own
 * timers around its attention kernels see them; bytes from the ledger.
 */
import type { CompareRun } from '../../sim/decode/compare.ts';
import { weightBytes } from '../../sim/model/ledger.ts';
import type { ModelShape } from '../../sim/model/shape.ts';
import type { Timeline } from '../../sim/timing/timeline.ts';

const RUN_METRICS = [
  'prefill',
  'prefill-attention',
  'prefill-rest',
  'prefill-and-32-steps',
  'step',
  'step-attention',
  'step-rest',
  'tokens-per-s',
  'kv-memory',
  'memory',
  'link-in-per-step',
  'hbm-read-per-step',
] as const;
export type RunMetric = (typeof RUN_METRICS)[number];

/** ns, bytes, or plain numbers. */
export type Measured = Readonly<Record<RunMetric, number>>;

/** Recall@100 of an index over a recorded decode, and over its first and last 1,000 steps (retrieval.ts); ratios. */
const RECALL_METRICS = ['recall-at-100', 'recall-at-100-first-1k', 'recall-at-100-last-1k'] as const;
export type RecallMetric = (typeof RECALL_METRICS)[number];

export const METRICS = [...RUN_METRICS, ...RECALL_METRICS] as const;
export type Metric = (typeof METRICS)[number];

export const isRecall = (metric: Metric): metric is RecallMetric =>
  RECALL_METRICS.some((name) => name === metric);

/** The prompt's place among the steps of a timeline. */
const PROMPT = -1;

/** Time in operations of `kind` in one step, overlap not subtracted, ns. */
const timeIn = (timeline: Timeline, kind: string, step: number): number => {
  const code = timeline.kinds.indexOf(kind);
  let sum = 0;
  for (let row = 0; row < timeline.step.length; row++)
    if (timeline.step[row] === step && timeline.kind[row] === code)
      sum += timeline.endNs[row] - timeline.startNs[row];
  return sum;
};

/** All metrics of a run of one policy. `dense` says whether weights count as memory. */
export const measure = (run: CompareRun, model: ModelShape, dense: boolean): Measured => {
  const [result] = run.result.policies;
  const [timeline] = run.timelines;
  const kvBytes = run.kvBytes[0].at(-1) ?? 0;
  const lastStep = run.kvBytes[0].length - 1;
  const prefillAttention = timeIn(timeline, 'attend', PROMPT);
  const step = result.stepNs.p50;
  const stepAttention = timeIn(timeline, 'attend', lastStep);
  const link = result.traffic['dram->hbm'];
  const { hbm } = result.traffic;
  return {
    prefill: result.prefillNs,
    'prefill-attention': prefillAttention,
    'prefill-rest': result.prefillNs - prefillAttention,
    // Until a draft of 32 tokens is there, for methods that look at one before they choose.
    'prefill-and-32-steps': result.prefillNs + 32 * step,
    step,
    'step-attention': stepAttention,
    'step-rest': step - stepAttention,
    'tokens-per-s': (run.result.experiment.batch as number) * (1e9 / step),
    'kv-memory': kvBytes,
    memory: kvBytes + (dense ? weightBytes(model) : 0),
    'link-in-per-step': 'bytesPerStep' in link ? link.bytesPerStep : 0,
    'hbm-read-per-step': 'readBytesPerStep' in hbm ? hbm.readBytesPerStep : 0,
  };
};
