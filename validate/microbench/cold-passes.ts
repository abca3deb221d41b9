/**
 * Times a site on a processor: its passes follow one another once, each over memory that no cache holds, and each is timed
 * by the end of its last call. So a site costs what its passes take, its median is robust against what else runs, and
 * nothing of a step's memory is taken for cached that is not.
 */
import type { Backend, RunTimes } from '../../kernels/backend.ts';
import type { Call } from '../../kernels/calls.ts';

/** Passes of a site take about this long together. */
const SITE_NS = 2.5e7;
/** Of so many passes the first only wakes threads and finds their code. */
const LEAST_WITH_LEAD = 3;

/** Calls of some passes as a list of their own: what waits for earlier ones waits for nothing. */
const passesFrom = (calls: readonly Call[], from: number, to: number): readonly Call[] =>
  calls.slice(from, to).map((call) => ({
    ...call,
    after: call.after.flatMap((earlier) => (earlier >= from ? [earlier - from] : [])),
  }));

/** Times between the ends of passes of `length` calls each, ns; that of the first from the list's start. */
const betweenEnds = ({ endNs }: RunTimes, length: number): readonly number[] => {
  const ends = Array.from({ length: endNs.length / length }, (_, pass) =>
    endNs.subarray(pass * length, (pass + 1) * length).reduce((a, b) => Math.max(a, b)),
  );
  return ends.map((end, pass) => end - (pass === 0 ? 0 : ends[pass - 1]));
};

/**
 * Times of passes, ns: of as many of the `passes` of the list as its time allows, one at least. `budgetNs`: what the site may
 * take in all. Throws KernelError.
 */
export const timeColdPasses = async (
  backend: Backend,
  calls: readonly Call[],
  passes: number,
  budgetNs: number,
): Promise<readonly number[]> => {
  const length = calls.length / passes;
  const run = async (from: number, to: number) =>
    betweenEnds(
      await backend.run(passesFrom(calls, length * from, length * to), {
        warmups: 0,
        repeats: 1,
        perCall: true,
      }),
      length,
    );
  const [first] = await run(0, 1);
  const more = Math.min(passes - 1, Math.floor((Math.min(SITE_NS, budgetNs) - first) / first));
  if (more < 1) return [first];
  const times = await run(1, 1 + more);
  return more < LEAST_WITH_LEAD ? [first, ...times] : times.slice(1);
};
