/**
 * What a benchmark is: one file of this folder that exports `bench`. A benchmark checks its own work (counts, digest)
 * and gives its speed twice: per CPU second, and as a ratio to a calibration loop of the same process, which carries
 * over to other machines.
 */
export interface BenchResult {
  /** Speed in the bench's unit; higher is better. */
  readonly value: number;
  /** Speed as work items per iteration of the calibration loop. */
  readonly ratio: number;
  /** False when a count or a digest is not what it must be: the speed then means nothing. */
  readonly ok: boolean;
  /** What was checked, or what went wrong. */
  readonly detail: string;
}

export interface Bench {
  readonly name: string;
  /** Budget in `unit`. */
  readonly budget: number;
  readonly unit: string;
  /** `iterationsPerS` is the speed of the calibration loop just before. */
  run(iterationsPerS: number): BenchResult | Promise<BenchResult>;
}

/**
 * CPU seconds that `work` takes: user and system time of the process, its compiler and collector threads included.
 * Other load on the machine does not count, and a second thread cannot flatter.
 */
const timeS = (work: () => void): number => {
  const from = process.cpuUsage();
  work();
  const took = process.cpuUsage(from);
  return (took.user + took.system) / 1e6;
};

/** The fastest of `runs` runs after a first one that warms up (disturbance only ever slows), and the last result. */
export const fastestOf = <T>(runs: number, work: () => T): { readonly seconds: number; readonly last: T } => {
  let last = work();
  let seconds = Number.POSITIVE_INFINITY;
  for (let run = 0; run < runs; run++) {
    const took = timeS(() => {
      last = work();
    });
    seconds = Math.min(seconds, took);
  }
  return { seconds, last };
};

const CALIBRATION_ITERATIONS = 20_000_000;

/** A plain loop: each iteration loads, adds and stores one of 4096 doubles at an index that the last one gave. */
const calibrationLoop = (cells: Float64Array): number => {
  let at = 1;
  for (let i = 0; i < CALIBRATION_ITERATIONS; i++) {
    const x = cells[at] + i;
    cells[at] = x;
    at = (Math.imul(at, 1664525) + 1013904223 + (i & 1)) & 4095;
  }
  return at;
};

/** Iterations a second of the calibration loop, the best of five runs. */
export const calibrate = (): number => {
  const cells = new Float64Array(4096);
  return CALIBRATION_ITERATIONS / fastestOf(5, () => calibrationLoop(cells)).seconds;
};
