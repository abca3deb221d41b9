/** What the pictures say about a result or a timeline, computed: steps, busy and exposed time, flows, the frontier. */
import type { PolicyResult } from '../../sim/result.ts';
import type { Timeline } from '../../sim/timing/timeline.ts';

/** The operations of one step: row numbers by start time, and the window that they span. */
export interface StepRows {
  readonly step: number;
  readonly rows: readonly number[];
  readonly fromNs: number;
  readonly toNs: number;
}

/** The timeline's steps in ascending order (prefill, if recorded, is step -1). */
export const splitSteps = (timeline: Timeline): readonly StepRows[] => {
  const rowsOf = new Map<number, number[]>();
  for (let row = 0; row < timeline.step.length; row++) {
    const rows = rowsOf.get(timeline.step[row]);
    if (rows === undefined) rowsOf.set(timeline.step[row], [row]);
    else rows.push(row);
  }
  return [...rowsOf]
    .sort(([a], [b]) => a - b)
    .map(([step, rows]) => {
      rows.sort((a, b) => timeline.startNs[a] - timeline.startNs[b] || a - b);
      const toNs = rows.reduce((latest, row) => Math.max(latest, timeline.endNs[row]), 0);
      return { step, rows, fromNs: timeline.startNs[rows[0]], toNs };
    });
};

/** Time of one stream inside a step, ns: busy, and exposed = busy while every other stream is idle. */
export interface LaneTime {
  readonly stream: string;
  readonly busyNs: number;
  readonly exposedNs: number;
}

/** Waits occupy a stream without work, so they count as idle. */
const isWork = (timeline: Timeline, row: number): boolean =>
  timeline.kinds[timeline.kind[row]] !== 'wait' && timeline.endNs[row] > timeline.startNs[row];

/** Sweeps over the starts and ends of a step's work: O(n log n) in its operations. */
export const laneTimes = (timeline: Timeline, { rows }: StepRows): readonly LaneTime[] => {
  const edges = rows
    .filter((row) => isWork(timeline, row))
    .flatMap((row) => [
      { atNs: timeline.startNs[row], lane: timeline.stream[row], change: 1 },
      { atNs: timeline.endNs[row], lane: timeline.stream[row], change: -1 },
    ])
    .sort((a, b) => a.atNs - b.atNs);
  const running = timeline.streams.map(() => 0);
  const busyNs = timeline.streams.map(() => 0);
  const exposedNs = timeline.streams.map(() => 0);
  let atNs = edges.length > 0 ? edges[0].atNs : 0;
  for (const edge of edges) {
    const active = running.flatMap((count, lane) => (count > 0 ? [lane] : []));
    for (const lane of active) busyNs[lane] += edge.atNs - atNs;
    if (active.length === 1) exposedNs[active[0]] += edge.atNs - atNs;
    running[edge.lane] += edge.change;
    atNs = edge.atNs;
  }
  return timeline.streams.map((stream, lane) => ({
    stream,
    busyNs: busyNs[lane],
    exposedNs: exposedNs[lane],
  }));
};

/** Bytes of one step from one place to another; `compute` is where attention and the MLP run. */
export interface Flow {
  readonly from: string;
  readonly to: string;
  readonly bytes: number;
  /** Weights flow beside the KV and are told apart, because no policy changes them. */
  readonly what: 'kv' | 'weights';
}

const boundary = /^(\w+)->(\w+)$/;

/** All flows of a policy's step, HBM's own reads and writes as flows to and from `compute`. */
export const flowsOf = (policy: PolicyResult): readonly Flow[] =>
  Object.entries(policy.traffic).flatMap(([key, traffic]): Flow[] => {
    if (!('bytesPerStep' in traffic)) {
      return [
        { from: key, to: 'compute', bytes: traffic.readBytesPerStep, what: 'kv' },
        { from: key, to: 'compute', bytes: traffic.weightReadBytesPerStep, what: 'weights' },
        { from: 'compute', to: key, bytes: traffic.writeBytesPerStep, what: 'kv' },
      ];
    }
    const ends = boundary.exec(key);
    return ends === null ? [] : [{ from: ends[1], to: ends[2], bytes: traffic.bytesPerStep, what: 'kv' }];
  });

/** Bytes a step over one boundary ("dram->hbm"); 0 when the policy has none. */
export const boundaryBytes = (policy: PolicyResult, key: string): number => {
  const traffic = policy.traffic[key];
  return traffic !== undefined && 'bytesPerStep' in traffic ? traffic.bytesPerStep : 0;
};

/** The boundaries that a comparison has columns for: the host link's two directions, then any other in use. */
export const boundaryKeys = (policies: readonly PolicyResult[]): readonly string[] => {
  const link = ['dram->hbm', 'hbm->dram'];
  const others = policies
    .flatMap((policy) => Object.keys(policy.traffic))
    .filter((key) => boundary.test(key) && !link.includes(key))
    .filter((key) => policies.some((policy) => boundaryBytes(policy, key) > 0));
  return [...link, ...new Set(others)];
};

/** Policies that fit and that no other one beats in both time and mass recall, fastest first. */
export const frontier = (policies: readonly PolicyResult[]): readonly PolicyResult[] => {
  let best = -1;
  return policies
    .filter((policy) => policy.fits && policy.quality !== null)
    .sort((a, b) => a.stepNs.mean - b.stepNs.mean || massRecall(b) - massRecall(a))
    .filter((policy) => {
      if (massRecall(policy) <= best) return false;
      best = massRecall(policy);
      return true;
    });
};

export const massRecall = (policy: PolicyResult): number => policy.quality?.massRecall.mean ?? 0;
