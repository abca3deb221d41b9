/**
 * Fits of resampled restarts, in as many threads as there are cores. The fitted numbers follow from the picks alone and
 * come back in the order of the draws, whichever thread fits which; draws that leave the same times are fitted once.
 */
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { createRandom } from '../../sim/engine/random.ts';
import type { MachineDescription } from '../overlay.ts';
import { measuredNs, type Samples, type SiteSamples } from '../samples.ts';
import { fitMachine } from './fit-machine.ts';

/** Which restart stands for each. */
export type Picks = readonly number[];
/** Paths of fitted numbers and their values, in the order of the laws. */
export type Values = readonly (readonly [path: string, value: number])[];

/** What a fitting thread is started with; `next` counts the draws that some thread has taken. */
export interface ResampleRequest {
  readonly samples: Samples;
  /** The machine that all samples gave. */
  readonly whole: MachineDescription;
  readonly name: string;
  readonly draws: readonly Picks[];
  readonly next: Int32Array;
}

export interface ResampleAnswer {
  readonly draw: number;
  readonly values: Values;
}

/** More threads than this would take more memory than time. */
const MOST_THREADS = 8;
const WORKER = new URL('./resample-worker.js', import.meta.url);

const resampledSite = (site: SiteSamples, picks: Picks): SiteSamples => {
  const { restartNs } = site;
  return { ...site, restartNs: picks.map((pick) => restartNs[pick % restartNs.length]) };
};

/** The numbers fitted to restarts picked with replacement, from those that all restarts gave: they are near. */
export const fitResampled = (
  samples: Samples,
  whole: MachineDescription,
  name: string,
  picks: Picks,
): Values => {
  const sites = samples.sites.map((site) => resampledSite(site, picks));
  const { laws } = fitMachine({ ...samples, sites }, whole, name, { tables: false, isNear: true });
  return laws.flatMap(({ values }) => Object.entries(values));
};

/** Draws of restarts, each with how often it, or one that leaves the same times, was drawn: fits see times alone. */
export const drawsOf = (
  { sites }: Samples,
  restarts: number,
  fits: number,
): readonly { readonly picks: Picks; readonly count: number }[] => {
  const draws = new Map<string, { readonly picks: Picks; readonly count: number }>();
  for (let fit = 0; fit < fits; fit++) {
    const random = createRandom(1, `bootstrap-${fit}`);
    const picks = Array.from({ length: restarts }, () => Math.floor(random.uniform() * restarts));
    const key = sites.map((site) => measuredNs(resampledSite(site, picks))).join();
    const known = draws.get(key) ?? { picks, count: 0 };
    draws.set(key, { ...known, count: known.count + 1 });
  }
  return [...draws.values()];
};

/** Threads for so many draws; 1 = this one, where there is one core or no built worker (in tests of the sources). */
const threadsFor = (draws: number): number =>
  existsSync(fileURLToPath(WORKER)) ? Math.min(MOST_THREADS, availableParallelism(), draws) : 1;

const serveIn = (worker: Worker, onAnswer: (answer: ResampleAnswer) => void): Promise<void> =>
  new Promise((resolve, reject) => {
    worker.on('message', onAnswer);
    worker.on('error', reject);
    worker.on('exit', (code) => {
      if (code === 0) resolve();
      else reject(new Error(`a fitting thread ended with exit ${code}`));
    });
  });

/** Values of each draw in the order of `draws`. Rejects with what a fit throws. */
export const fitDraws = async (
  samples: Samples,
  whole: MachineDescription,
  name: string,
  draws: readonly Picks[],
  onFit: (draw: number) => void,
  threads = threadsFor(draws.length),
): Promise<readonly Values[]> => {
  if (threads <= 1)
    return draws.map((picks, draw) => {
      const values = fitResampled(samples, whole, name, picks);
      onFit(draw);
      return values;
    });
  const found: Values[] = draws.map(() => []);
  const next = new Int32Array(new SharedArrayBuffer(4));
  const workerData: ResampleRequest = { samples, whole, name, draws, next };
  const workers = Array.from({ length: threads }, () => new Worker(WORKER, { workerData }));
  try {
    await Promise.all(
      workers.map((worker) =>
        serveIn(worker, ({ draw, values }) => {
          found[draw] = values;
          onFit(draw);
        }),
      ),
    );
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
  return found;
};
