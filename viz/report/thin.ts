/** Keeps a report small: of long timelines it keeps whole steps, spread over the run, and says which. */
import type { Timeline } from '../../sim/timing/timeline.ts';
import { type StepRows, splitSteps } from '../app/analysis.ts';
import { formatCount } from '../app/format.ts';
import type { PolicyTimeline } from '../payload.ts';

const takeRows = (timeline: Timeline, rows: readonly number[]): Timeline => ({
  kinds: timeline.kinds,
  streams: timeline.streams,
  startNs: Float64Array.from(rows, (row) => timeline.startNs[row]),
  endNs: Float64Array.from(rows, (row) => timeline.endNs[row]),
  kind: Uint8Array.from(rows, (row) => timeline.kind[row]),
  stream: Uint8Array.from(rows, (row) => timeline.stream[row]),
  layer: Int16Array.from(rows, (row) => timeline.layer[row]),
  step: Int32Array.from(rows, (row) => timeline.step[row]),
  bytes: Float64Array.from(rows, (row) => timeline.bytes[row]),
});

/** The first step, the slowest, then steps evenly over the run, while they stay within `limitRows` (at least one). */
const chooseSteps = (steps: readonly StepRows[], limitRows: number): ReadonlySet<StepRows> => {
  const slowest = steps.reduce((a, b) => (b.toNs - b.fromNs > a.toNs - a.fromNs ? b : a));
  const meanRows = steps.reduce((sum, { rows }) => sum + rows.length, 0) / steps.length;
  const count = Math.max(1, Math.min(steps.length, Math.floor(limitRows / meanRows)));
  const spread = Array.from({ length: count }, (_, i) => steps[Math.floor((i * steps.length) / count)]);
  const chosen = new Set<StepRows>();
  let rows = 0;
  for (const step of [steps[0], slowest, ...spread]) {
    if (chosen.has(step) || (chosen.size > 0 && rows + step.rows.length > limitRows)) continue;
    chosen.add(step);
    rows += step.rows.length;
  }
  return chosen;
};

/** The timelines within `limitRows` rows together, each with its fair share, and a note when steps were left out. */
export const thinTimelines = (
  timelines: readonly PolicyTimeline[],
  limitRows: number,
): { readonly timelines: readonly PolicyTimeline[]; readonly pageNotes: readonly string[] } => {
  const totalRows = timelines.reduce((sum, { timeline }) => sum + timeline.startNs.length, 0);
  if (totalRows <= limitRows) return { timelines, pageNotes: [] };
  const shareRows = Math.floor(limitRows / timelines.length);
  let keptSteps = 0;
  let allSteps = 0;
  const thinned = timelines.map(({ policy, timeline }): PolicyTimeline => {
    const steps = splitSteps(timeline);
    if (steps.length === 0) return { policy, timeline };
    const kept = chooseSteps(steps, shareRows);
    keptSteps += kept.size;
    allSteps += steps.length;
    const rows = steps.filter((step) => kept.has(step)).flatMap((step) => step.rows);
    return { policy, timeline: takeRows(timeline, rows) };
  });
  const note = `the timelines of this page hold ${formatCount(keptSteps)} of ${formatCount(allSteps)} steps (the first, the slowest, the rest evenly spread); the table and the flows cover all`;
  return { timelines: thinned, pageNotes: [note] };
};
