/**
 * Runs prepared cases on a backend: as many as fit its memory share buffers, all of them are timed in rounds of another
 * order each, and one row of attention of each is checked. A case that cannot run says why and the others go on.
 */
import { type Backend, KernelError } from '../../kernels/backend.ts';
import { createRandom } from '../../kernels/random.ts';
import { bindStep } from '../execute/bind.ts';
import { runOnce, type Timing, timeStep, writeTables } from '../execute/execute.ts';
import { joinedCalls } from '../execute/joined.ts';
import { laidOut } from '../execute/laid-out.ts';
import type { Memory } from '../execute/memory.ts';
import { checkOutput, type OutputCheck, type RealRows } from '../execute/verify.ts';
import { medianOf } from '../samples.ts';
import { checkSelection } from '../selection/checks.ts';
import { allocateCases, type Candidate, type MemoryLimits } from './case-memory.ts';
import type { PreparedCase } from './pack.ts';
import type { CaseSamples, ValidationSamples } from './samples.ts';

export interface RunCasesOptions extends MemoryLimits {
  readonly warmups: number;
  readonly repeats: number;
  readonly rounds: number;
  /** Runs each case once and checks nothing: for a profiler that counts what a run does. */
  readonly once: boolean;
  readonly seed: number;
  /** Date of the run, for the record. */
  readonly date: string;
  /** Rows of the case's trace for the check of its output; null = none are to be had. */
  rowsOf(prepared: PreparedCase): ((layer: number, kvHead: number) => RealRows | null) | null;
  onProgress(share: number): void;
  /** A line as each case begins or ends. */
  say(line: string): void;
  /** No case is begun after this much time, ms since the run began; what was measured by then is kept. */
  readonly limitMs: number;
  /** A case that takes longer is given up, and with it the backend, ms. */
  readonly caseLimitMs: number;
}

interface Running extends Candidate {
  readonly prepared: PreparedCase;
  readonly timings: Timing[];
  check: OutputCheck;
  /** Of sets selected by kernels against those of the policy; null where it selects none by a kernel. */
  jaccard: number | null;
}

const reasonOf = (error: unknown): string => {
  if (error instanceof KernelError) return error.message;
  throw error;
};

/** Watches the time of a run, and gives up on a backend that does not come back. */
interface Clock {
  isOver(): boolean;
  isStuck(): boolean;
  /** Rejects with KernelError 'fault' when the work takes longer than a case may. */
  watched(work: () => Promise<void>): Promise<void>;
}

/** How the reason of a case ends after which its backend answers no more. */
export const GIVEN_UP = 'the backend was given up';

const startClock = ({ limitMs, caseLimitMs }: RunCasesOptions): Clock => {
  const began = performance.now();
  let stuck = false;
  return {
    isOver: () => stuck || performance.now() - began > limitMs,
    isStuck: () => stuck,
    watched: async (work) => {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(() => {
          stuck = true;
          reject(new KernelError('fault', `did not end within ${caseLimitMs / 1000} s; ${GIVEN_UP}`));
        }, caseLimitMs);
      });
      try {
        await Promise.race([work(), late]);
      } finally {
        clearTimeout(timer);
      }
    },
  };
};

const nameOf = ({ prepared: { workload } }: Running): string =>
  `${workload.policy}, ${workload.context} tokens, batch ${workload.batch}`;

const lastNs = ({ timings }: Running): number => Math.round(medianOf([...(timings.at(-1)?.totalNs ?? [0])]));

const shuffledBy = <T>(list: readonly T[], seed: number): readonly T[] => {
  const random = createRandom(seed);
  return list
    .map((item) => ({ item, key: random.uniform() }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item);
};

const round = async (
  backend: Backend,
  memory: Memory,
  running: readonly Running[],
  options: RunCasesOptions,
  clock: Clock,
  seed: number,
  report: () => void,
): Promise<void> => {
  for (const one of shuffledBy(running, seed)) {
    report();
    if (one.failure !== null || clock.isOver()) continue;
    options.say(`${nameOf(one)}: begins`);
    const started = performance.now();
    try {
      const { warmups, repeats, once } = options;
      await clock.watched(async () => {
        await writeTables(memory, one.bound);
        one.timings.push(
          once
            ? await runOnce(backend, memory, one.bound)
            : await timeStep(backend, memory, one.bound, {
                warmups,
                repeats,
                graph: true,
                // Once is enough for what is only looked at kind by kind.
                perCall: one.timings.length === 0,
              }),
        );
      });
      options.say(`${nameOf(one)}: ${lastNs(one)} ns, took ${Math.round(performance.now() - started)} ms`);
    } catch (error) {
      one.failure = reasonOf(error);
      options.say(`${nameOf(one)}: ${one.failure}`);
    }
  }
};

const check = async (
  backend: Backend,
  memory: Memory,
  one: Running,
  clock: Clock,
  options: RunCasesOptions,
): Promise<void> => {
  if (one.failure !== null || clock.isOver()) return;
  const rows = options.rowsOf(one.prepared);
  if (rows === null) {
    one.check = { outputError: null, note: 'no rows of the trace' };
    return;
  }
  try {
    await writeTables(memory, one.bound);
    one.check = await checkOutput(backend, memory, one.bound, rows);
    const { workload } = one.prepared;
    const layer = workload.program.layers.findLast(({ replayedLayer }) => replayedLayer !== null);
    const { replayedHeads } = workload.dimensions;
    const replayed = layer?.replayedLayer ?? null;
    const real = replayed === null ? null : rows(replayed, replayedHeads[0]);
    if (real !== null) one.jaccard = await checkSelection(backend, workload, real);
  } catch (error) {
    one.failure = reasonOf(error);
  }
};

const samplesOf = ({ prepared, bound, timings, check: output, jaccard }: Running): CaseSamples => {
  const { workload, budget } = prepared;
  const { policy, context, batch, dimensions, program } = workload;
  return {
    policy,
    model: dimensions.model,
    context,
    batch,
    budget,
    layers: program.layers.length,
    modelLayers: dimensions.modelLayers,
    operations: [...laidOut(bound)],
    rounds: timings.map(({ totalNs }) => [...totalNs]),
    operationNs: timings[0].operationNs.map(({ at, startNs, endNs }) => [at, startNs, endNs]),
    graph: timings[0].graph,
    calls: joinedCalls(bound.binding.calls).length,
    bytes: { ...bound.binding.bytes },
    outputError: output.outputError,
    outputNote: output.note,
    jaccard,
    standIns: [...bound.binding.standIns],
  };
};

/** Runs all cases that the machine has memory and kernels for; the others are refused with a reason. */
export const runCases = async (
  backend: Backend,
  cases: readonly PreparedCase[],
  options: RunCasesOptions,
): Promise<ValidationSamples> => {
  const running = cases.map((prepared): Running => {
    const bound = bindStep(prepared.workload);
    const note = { outputError: null, note: null };
    return { prepared, bound, timings: [], check: note, jaccard: null, failure: null };
  });
  const clock = startClock(options);
  const memory = await allocateCases(backend, running, options, options.seed);
  const able = running.filter(({ failure }) => failure === null);
  const senses: Readonly<Record<string, number>>[] = [];
  if (memory !== null) {
    let done = 0;
    const report = (): void => options.onProgress(done++ / (able.length * (options.rounds + 1)));
    for (let at = 0; at < (options.once ? 1 : options.rounds); at++) {
      if (clock.isOver()) break;
      senses.push(await backend.sense());
      await round(backend, memory, able, options, clock, options.seed + at, report);
      // After the first round, so that a run that ends early has its outputs checked.
      for (const one of options.once || at > 0 ? [] : able) {
        report();
        await check(backend, memory, one, clock, options);
      }
    }
    if (!clock.isStuck()) {
      senses.push(await backend.sense());
      memory.free();
    }
  }
  const { name, driver, runtime, units, emulated } = backend.device;
  for (const one of able) if (one.timings.length === 0) one.failure ??= 'no time was left for it';
  const refused = running.flatMap(({ prepared: { workload }, failure }) =>
    failure === null
      ? []
      : [{ policy: workload.policy, context: workload.context, batch: workload.batch, reason: failure }],
  );
  return {
    format: 'kvtier.validation-samples/1',
    machine: {
      backend: backend.name,
      name,
      driver,
      runtime,
      units,
      date: options.date,
      emulated: [...emulated],
    },
    senses,
    cases: running.filter(({ failure }) => failure === null).map(samplesOf),
    refused,
  };
};
