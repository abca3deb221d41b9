/**
 * The rectangles of one step's timeline at one zoom: one an operation, except that neighbours too narrow to see
 * are drawn as one bar that still knows its rows. Pure geometry; the view draws it.
 */
import type { Timeline } from '../../sim/timing/timeline.ts';
import type { StepRows } from './analysis.ts';

export interface Mark {
  readonly lane: number;
  /** Rows that this bar stands for; one, unless they were too narrow to tell apart. */
  readonly rows: readonly number[];
  readonly fromPx: number;
  readonly toPx: number;
  /** The kind that takes most of the bar's time. */
  readonly kind: string;
}

/** Bars narrower than this join the next one on their lane when it starts within the same distance. */
const visiblePx = 0.75;

interface OpenMark {
  lane: number;
  rows: number[];
  fromPx: number;
  toPx: number;
}

/** Marks in lane order, then time order; `toPx(ns)` maps absolute time to the picture, `widthPx` culls. */
export const laneMarks = (
  timeline: Timeline,
  { rows }: StepRows,
  xOfNs: (timeNs: number) => number,
  widthPx: number,
): readonly Mark[] => {
  const open: (OpenMark | undefined)[] = timeline.streams.map(() => undefined);
  const done: OpenMark[] = [];
  for (const row of rows) {
    const fromPx = xOfNs(timeline.startNs[row]);
    const toPx = xOfNs(timeline.endNs[row]);
    if (toPx < 0 || fromPx > widthPx) continue;
    const lane = timeline.stream[row];
    const last = open[lane];
    const isNarrow = toPx - fromPx < visiblePx;
    if (
      last !== undefined &&
      isNarrow &&
      last.toPx - last.fromPx < visiblePx &&
      fromPx - last.toPx < visiblePx
    ) {
      last.rows.push(row);
      last.toPx = Math.max(last.toPx, toPx);
      continue;
    }
    const mark = { lane, rows: [row], fromPx, toPx };
    open[lane] = mark;
    done.push(mark);
  }
  return done
    .sort((a, b) => a.lane - b.lane || a.fromPx - b.fromPx)
    .map((mark) => ({ ...mark, kind: mainKind(timeline, mark.rows) }));
};

const mainKind = (timeline: Timeline, rows: readonly number[]): string => {
  const timeNs = new Map<number, number>();
  let best = timeline.kind[rows[0]];
  for (const row of rows) {
    const kind = timeline.kind[row];
    timeNs.set(kind, (timeNs.get(kind) ?? 0) + timeline.endNs[row] - timeline.startNs[row]);
    if ((timeNs.get(kind) ?? 0) > (timeNs.get(best) ?? 0)) best = kind;
  }
  return timeline.kinds[best];
};

/** Time of the step spent in each kind of operation, longest first (overlap not removed). */
export const kindTimes = (
  timeline: Timeline,
  { rows }: StepRows,
): readonly { readonly kind: string; readonly timeNs: number }[] => {
  const times = timeline.kinds.map(() => 0);
  const seen = new Set<number>();
  for (const row of rows) {
    times[timeline.kind[row]] += timeline.endNs[row] - timeline.startNs[row];
    seen.add(timeline.kind[row]);
  }
  return [...seen]
    .map((kind) => ({ kind: timeline.kinds[kind], timeNs: times[kind] }))
    .sort((a, b) => b.timeNs - a.timeNs || (a.kind < b.kind ? -1 : 1));
};
