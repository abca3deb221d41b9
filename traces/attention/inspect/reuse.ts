/**
 * After how many steps is a selected block selected again? Counted inside runs of successive steps; what a run did
 * not select before counts as `first`. It is the age that a cache of fetched blocks must bridge.
 */

/** Upper ends of the bins, in steps: 1, 2, 3-4, 5-8, 9-16, then everything longer. */
const ENDS = [1, 2, 4, 8, 16] as const;
const REUSE_BINS = ['1', '2', '3-4', '5-8', '9-16', '17+', 'first'] as const;

export interface Reuse {
  /** Selections by bin, REUSE_BINS. */
  readonly counts: Float64Array;
  /** Step of the last selection of each block in this run, -1 = none. */
  readonly lastStep: Int32Array;
  /** Step of the last call; -2 = no run has begun. */
  step: number;
}

export const createReuse = (blocks: number): Reuse => ({
  counts: new Float64Array(REUSE_BINS.length),
  lastStep: new Int32Array(blocks),
  step: -2,
});

const binOf = (distance: number): number => {
  let bin = 0;
  while (bin < ENDS.length && distance > ENDS[bin]) bin++;
  return bin;
};

/** Adds the blocks selected at `step`. A step that does not follow the last one begins a run, which counts nothing. */
export const addSelection = (reuse: Reuse, step: number, blocks: Int32Array, count: number): void => {
  const begins = step !== reuse.step + 1;
  if (begins) reuse.lastStep.fill(-1);
  for (let i = 0; i < count; i++) {
    const block = blocks[i];
    const last = reuse.lastStep[block];
    if (!begins) reuse.counts[last < 0 ? REUSE_BINS.length - 1 : binOf(step - last)]++;
    reuse.lastStep[block] = step;
  }
  reuse.step = step;
};

/** Share of the counted selections in each bin; null when no two steps were successive. */
export const reuseShares = ({ counts }: Reuse): Readonly<Record<string, number>> | null => {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0) return null;
  return Object.fromEntries(REUSE_BINS.map((bin, at) => [bin, counts[at] / total]));
};
