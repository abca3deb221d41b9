/**
 * Timelines as Chrome-trace JSON, which Perfetto and chrome://tracing open: a process a policy, a thread a stream.
 * Format: "Trace Event Format", https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
 * (JSON object form, phases X, M and C; ts and dur in microseconds, here with three decimals, so exact to the ns).
 */
import type { Timeline } from '../sim/timing/timeline.ts';
import type { PolicyTimeline } from './payload.ts';

/** Thread ids: 0 is the row of steps, then the streams in the order that people read them. */
const threadIds: Readonly<Record<string, number>> = { compute: 1, h2d: 2, d2h: 3, cpu: 4, nvme: 5 };
const stepThread = 0;

const threadLabels: Readonly<Record<string, string>> = {
  compute: 'compute (GPU kernels)',
  h2d: 'h2d (host to GPU copies)',
  d2h: 'd2h (GPU to host copies)',
  cpu: 'cpu (host work)',
  nvme: 'nvme (storage)',
};

/** Streams whose bytes cross a link while an operation runs, so that bytes over duration is the link's rate. */
const linkStreams: ReadonlySet<string> = new Set(['h2d', 'd2h', 'nvme']);

const pieceChars = 1 << 16;

const micros = (wholeNs: number): string => {
  const rest = wholeNs % 1000;
  return `${(wholeNs - rest) / 1000}.${String(rest).padStart(3, '0')}`;
};

const metadata = (name: string, pid: number, tid: number, args: Readonly<Record<string, unknown>>): string =>
  JSON.stringify({ name, ph: 'M', pid, tid, ts: 0, args });

/** Rows by start time; ties keep the order of submission, so that zero-length waits stay where they were. */
const rowsByStart = (timeline: Timeline): Uint32Array => {
  const { startNs } = timeline;
  const rows = Uint32Array.from({ length: startNs.length }, (_, row) => row);
  return rows.sort((a, b) => startNs[a] - startNs[b] || a - b);
};

function* processEvents(policy: string, timeline: Timeline, pid: number): Generator<string> {
  yield metadata('process_name', pid, stepThread, { name: policy });
  yield metadata('process_sort_index', pid, stepThread, { sort_index: pid });
  yield metadata('thread_name', pid, stepThread, { name: 'steps' });
  yield metadata('thread_sort_index', pid, stepThread, { sort_index: stepThread });
  for (const stream of timeline.streams) {
    const tid = threadIds[stream];
    yield metadata('thread_name', pid, tid, { name: threadLabels[stream] });
    yield metadata('thread_sort_index', pid, tid, { sort_index: tid });
  }
}

/** One slice a step, from its first operation to the next step's first (the last step: to its end). */
function* stepEvents(timeline: Timeline, rows: Uint32Array, pid: number): Generator<string> {
  const { startNs, endNs, step } = timeline;
  const firstNs = new Map<number, number>();
  let lastNs = 0;
  for (const row of rows) {
    if (!firstNs.has(step[row])) firstNs.set(step[row], Math.round(startNs[row]));
    lastNs = Math.max(lastNs, Math.round(endNs[row]));
  }
  const starts = [...firstNs];
  for (let i = 0; i < starts.length; i++) {
    const [id, fromNs] = starts[i];
    const toNs = i + 1 < starts.length ? starts[i + 1][1] : lastNs;
    const name = id < 0 ? 'prefill' : `step ${id}`;
    yield `{"name":"${name}","cat":"step","ph":"X","pid":${pid},"tid":${stepThread},"ts":${micros(fromNs)},"dur":${micros(toNs - fromNs)},"args":{"step":${id}}}`;
  }
}

/** Operations as complete events; copies also set a counter to the rate of their link while they run. */
function* operationEvents(timeline: Timeline, rows: Uint32Array, pid: number): Generator<string> {
  const { kinds, streams, startNs, endNs, kind, stream, layer, step, bytes } = timeline;
  const names = kinds.map((name) => JSON.stringify(name));
  const counterEndNs = new Map<string, number>();
  for (const row of rows) {
    const fromNs = Math.round(startNs[row]);
    const durationNs = Math.round(endNs[row]) - fromNs;
    const lane = streams[stream[row]];
    yield `{"name":${names[kind[row]]},"cat":"${lane}","ph":"X","pid":${pid},"tid":${threadIds[lane]},"ts":${micros(fromNs)},"dur":${micros(durationNs)},"args":{"layer":${layer[row]},"step":${step[row]},"bytes":${bytes[row]}}}`;
    if (!linkStreams.has(lane) || durationNs === 0) continue;
    const idleFromNs = counterEndNs.get(lane);
    if (idleFromNs !== undefined && idleFromNs < fromNs) yield counterEvent(lane, pid, idleFromNs, 0);
    yield counterEvent(lane, pid, fromNs, bytes[row] / durationNs);
    counterEndNs.set(lane, fromNs + durationNs);
  }
  for (const [lane, endedNs] of counterEndNs) yield counterEvent(lane, pid, endedNs, 0);
}

const counterEvent = (lane: string, pid: number, atNs: number, gbPerS: number): string =>
  `{"name":"${lane} rate","ph":"C","pid":${pid},"tid":${threadIds[lane]},"ts":${micros(atNs)},"args":{"GB/s":${Number(gbPerS.toFixed(3))}}}`;

function* traceEvents(timelines: readonly PolicyTimeline[]): Generator<string> {
  for (const [index, { policy, timeline }] of timelines.entries()) {
    const pid = index + 1;
    const rows = rowsByStart(timeline);
    yield* processEvents(policy, timeline, pid);
    yield* stepEvents(timeline, rows, pid);
    yield* operationEvents(timeline, rows, pid);
  }
}

/**
 * The JSON text of the trace, in pieces of about 64 KiB to be written one after another (constant memory).
 * `meta` becomes `otherData` (experiment, digest). Times are rounded to whole nanoseconds, starts and ends alike,
 * so operations that followed each other on a stream still do. 1 byte/ns = 1 GB/s on the counter tracks.
 */
export function* chromeTrace(
  timelines: readonly PolicyTimeline[],
  meta: Readonly<Record<string, unknown>>,
): Generator<string> {
  let piece = `{"displayTimeUnit":"ns","otherData":${JSON.stringify(meta)},"traceEvents":[`;
  let separator = '\n';
  for (const event of traceEvents(timelines)) {
    piece += separator + event;
    separator = ',\n';
    if (piece.length < pieceChars) continue;
    yield piece;
    piece = '';
  }
  yield `${piece}\n]}\n`;
}
