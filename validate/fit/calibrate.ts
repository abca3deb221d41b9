/**
 * From samples to a profile that says how far it can be trusted: the fit, its errors on sites left out, the noise of the
 * measurements, and 95 % intervals of its numbers from fits of resampled restarts (percentile bootstrap; restarts are
 * resampled and not repeats, because repeats of one process share its luck).
 */
import { quantileOfSorted } from '../../sim/engine/stats.ts';
import { loadProfile } from '../../sim/hardware/load.ts';
import type { MachineDescription } from '../overlay.ts';
import type { Samples } from '../samples.ts';
import { type FittedMachine, fitMachine } from './fit-machine.ts';
import { drawsOf, fitDraws } from './resample.ts';

export interface CalibrationNames {
  /** Name and title of the profile, and name of the stack of its kernels. */
  readonly name: string;
  readonly title: string;
  readonly stack: string;
}

/** 2.5th and 97.5th percentile of each number of the machine over `fits` fits; empty with fewer than two restarts. */
const intervalsOf = async (
  samples: Samples,
  whole: MachineDescription,
  name: string,
  fits: number,
  onFit: (fits: number) => void,
): Promise<Record<string, [number, number]>> => {
  const restarts = Math.max(0, ...samples.sites.map(({ restartNs }) => restartNs.length));
  if (restarts < 2) return {};
  const draws = drawsOf(samples, restarts, fits);
  let done = 0;
  const found = await fitDraws(
    samples,
    whole,
    name,
    draws.map(({ picks }) => picks),
    (draw) => {
      done += draws[draw].count;
      onFit(done);
    },
  );
  const values = new Map<string, number[]>();
  found.forEach((one, draw) => {
    const { count } = draws[draw];
    for (const [path, value] of one)
      values.set(path, [...(values.get(path) ?? []), ...Array.from({ length: count }, () => value)]);
  });
  return Object.fromEntries(
    [...values].map(([path, all]) => {
      const sorted = Float64Array.from(all).sort();
      return [path, [quantileOfSorted(sorted, 0.025), quantileOfSorted(sorted, 0.975)]];
    }),
  );
};

/**
 * Profile and stack of a machine from its samples. `fits`: resampled fits for the intervals; `onFit` hears how many are
 * done.
 */
export const calibrate = async (
  samples: Samples,
  base: MachineDescription,
  { name, title, stack }: CalibrationNames,
  fits: number,
  onFit: (fits: number) => void = () => {},
): Promise<FittedMachine> => {
  const fitted = fitMachine(samples, base, name);
  const { machine, sites } = samples;
  const { driver, runtime, date, emulated } = machine;
  const whole = { hardware: fitted.hardware, stack: { ...fitted.stack, utilisation: {} } };
  const intervals = await intervalsOf(samples, whole, name, fits, onFit);
  const hardware = loadProfile(
    {
      ...fitted.hardware,
      title,
      aliases: [],
      calibration: {
        machine: machine.name,
        driver,
        runtime,
        date,
        emulated,
        restarts: Math.max(1, ...sites.map(({ restartNs }) => restartNs.length)),
        sites: sites.length,
        noise: fitted.noise,
        heldOut: fitted.heldOut,
        laws: fitted.laws.map(({ law, fit, heldOut }) => ({ law, fit, heldOut })),
        intervals,
      },
    },
    `calibration of ${name}`,
  );
  return {
    ...fitted,
    hardware,
    stack: { ...fitted.stack, name: stack, title: `kvtier's own kernels on ${title}`, aliases: [] },
  };
};
