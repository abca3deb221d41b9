/**
 * From samples to a profile that says how far it can be trusted: the fit, its errors on sites left out, the noise of the
 * measurements, and 95 % intervals of its numbers from fits of resampled restarts (percentile bootstrap; restarts are
 * resampled and not repeats, because repeats of one process share its luck).
 */
import { createRandom } from '../../sim/engine/random.ts';
import { quantileOfSorted } from '../../sim/engine/stats.ts';
import { loadProfile } from '../../sim/hardware/load.ts';
import type { MachineDescription } from '../overlay.ts';
import type { Samples, SiteSamples } from '../samples.ts';
import { type FittedMachine, fitMachine } from './fit-machine.ts';

export interface CalibrationNames {
  /** Name and title of the profile, and name of the stack of its kernels. */
  readonly name: string;
  readonly title: string;
  readonly stack: string;
}

const resampled = (site: SiteSamples, picks: readonly number[]): SiteSamples => {
  const { restartNs } = site;
  return { ...site, restartNs: picks.map((pick) => restartNs[pick % restartNs.length]) };
};

/** 2.5th and 97.5th percentile of each fitted number over `fits` fits; empty with fewer than two restarts. */
const intervalsOf = (
  samples: Samples,
  base: MachineDescription,
  name: string,
  fits: number,
  onFit: () => void,
): Record<string, [number, number]> => {
  const restarts = Math.max(0, ...samples.sites.map(({ restartNs }) => restartNs.length));
  if (restarts < 2) return {};
  const values = new Map<string, number[]>();
  for (let fit = 0; fit < fits; fit++) {
    const random = createRandom(1, `bootstrap-${fit}`);
    const picks = Array.from({ length: restarts }, () => Math.floor(random.uniform() * restarts));
    const sites = samples.sites.map((site) => resampled(site, picks));
    for (const law of fitMachine({ ...samples, sites }, base, name, { tables: false }).laws)
      for (const [path, value] of Object.entries(law.values))
        values.set(path, [...(values.get(path) ?? []), value]);
    onFit();
  }
  return Object.fromEntries(
    [...values].map(([path, all]) => {
      const sorted = Float64Array.from(all).sort();
      return [path, [quantileOfSorted(sorted, 0.025), quantileOfSorted(sorted, 0.975)]];
    }),
  );
};

/** Profile and stack of a machine from its samples. `fits`: resampled fits for the intervals. */
export const calibrate = (
  samples: Samples,
  base: MachineDescription,
  { name, title, stack }: CalibrationNames,
  fits: number,
  onFit: () => void = () => {},
): FittedMachine => {
  const fitted = fitMachine(samples, base, name);
  const { machine, sites } = samples;
  const { driver, runtime, date, emulated } = machine;
  const intervals = intervalsOf(samples, base, name, fits, onFit);
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
