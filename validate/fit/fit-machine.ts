/**
 * From raw samples to a machine: readings first, then each law by robust regression on logarithms of time, and a table of
 * utilisation for what its formula leaves. Some sites are left out of every fit; the errors stated are those of the sites
 * left out, which tables take up only after that. Nothing here sees a policy.
 */
import { loadProfile, loadStack } from '../../sim/hardware/load.ts';
import { resolveMachine } from '../../sim/timing/cost.ts';
import { type Constant, type MachineDescription, put, valueAt } from '../overlay.ts';
import { predictNs } from '../predict-site.ts';
import { measuredNs, type Samples, type SiteSamples } from '../samples.ts';
import { keepShares } from './carry.ts';
import type { AxisChoice } from './grid.ts';
import { describeTiles } from './kernel-tiles.ts';
import type { Law } from './law.ts';
import { lawsOf } from './laws.ts';
import { regress } from './least-squares.ts';
import { movingMachine } from './moving-machine.ts';
import { describeProcessor, isProcessor, processorLaw } from './processor.ts';
import { type Pair, type Residuals, residualsOf } from './residuals.ts';
import { dropTable, fitTable } from './table.ts';

/** Every so many sites, one is left out of the fit. */
const HELD_OUT_EVERY = 3;
/** No threshold below the noise of good measurements. */
const LEAST_SPREAD = 0.02;
/** What a law starts from where nothing states the number. */
const FIRST = {
  startNs: 3000,
  rowNs: 0.05,
  cachedBytesPerNs: 2000,
  seekNs: 500,
  choiceNs: 5000,
  d2hLatencyNs: 5000,
  rampNs: 1000,
  joinNs: 4000,
  listNs: 4000,
  turnNs: 3000,
  tokenNs: 50,
  mergeNs: 2000,
  mergeRoundNs: 800,
  mergeListedNs: 1200,
  turnHiddenRatio: 0.3,
  skewNs: 1000,
  startRatio: 1,
  keptRatio: 0.6,
  formNs: 500,
  rampBytes: 2 ** 20,
  rateRatio: 0.8,
  flopsRatio: 0.5,
  tableRatio: 0.5,
  aloneRatio: 1.2,
  headNs: 100,
  errorRatio: 0.5,
};

/** A machine that others share is not known better than it repeats, however well a law fits its median restart. */
const ERROR_HOW = 'P95 on sites left out of the fit, or from restart to restart where that is more';

export interface FittedLaw {
  readonly law: string;
  readonly values: Readonly<Record<string, number>>;
  readonly fit: Residuals;
  /** Null where no site was left out. */
  readonly heldOut: Residuals | null;
}

export interface FittedMachine extends MachineDescription {
  readonly laws: readonly FittedLaw[];
  /** Errors on all sites left out, each as the last law that it shows predicts it. Null where none was. */
  readonly heldOut: Residuals | null;
  /** Error of predicting one restart from another: no model can claim less. Null with a single restart. */
  readonly noise: Residuals | null;
}

/** FNV-1a of a site's name: whether it is held out depends on nothing else. */
const hashOf = (text: string): number => {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0;
  return hash;
};

export const isHeldOut = ({ benchmark, id }: SiteSamples): boolean =>
  hashOf(`${benchmark} ${id}`) % HELD_OUT_EVERY === 0;

/** A decade of time with many sites counts more than one with few, but not by as much: one bad site must not rule. */
const weightsOf = (sites: readonly SiteSamples[]): readonly number[] => {
  const decade = (site: SiteSamples): string =>
    `${site.benchmark} ${Math.floor(Math.log10(measuredNs(site)))}`;
  const counts = new Map<string, number>();
  for (const site of sites) counts.set(decade(site), (counts.get(decade(site)) ?? 0) + 1);
  return sites.map((site) => 1 / Math.sqrt(counts.get(decade(site)) ?? 1));
};

const fitLaw = (
  description: MachineDescription,
  law: Law,
  sites: readonly SiteSamples[],
  constant: (value: number) => Constant,
  isNear: boolean,
): void => {
  const limits = law.parameters.map((path) => {
    const of = law.atMost?.[path];
    if (of !== undefined) return valueAt(description, of) ?? Infinity;
    return /(?:rateRatio|Efficiency)$/.test(path) && path.startsWith('hardware') ? 1 : Infinity;
  });
  const apply = (at: readonly number[]): void => {
    law.parameters.forEach((path, i) => {
      // What stands at its limit would pass it by the last digit of a logarithm.
      put(description, path, constant(Math.min(limits[i], Math.exp(at[i]))));
    });
  };
  const measured = sites.map((site) => Math.log(measuredNs(site)));
  const resolve = movingMachine(description, law.parameters);
  apply(
    regress({
      start: law.parameters.map((path) => Math.log(valueAt(description, path) ?? 1)),
      most: limits.map(Math.log),
      weights: weightsOf(sites),
      leastSpread: LEAST_SPREAD,
      isNear,
      residuals: (at) => {
        apply(at);
        const machine = resolve();
        const residuals = new Float64Array(sites.length);
        for (let i = 0; i < sites.length; i++)
          residuals[i] = Math.log(predictNs(sites[i].operations, machine)) - measured[i];
        return residuals;
      },
    }),
  );
};

const pairsOf = ({ hardware, stack }: MachineDescription, sites: readonly SiteSamples[]): readonly Pair[] => {
  const machine = resolveMachine(hardware, stack);
  return sites.map((site) => ({
    predicted: predictNs(site.operations, machine),
    measured: measuredNs(site),
  }));
};

/** Noise floor: each restart predicted by the one before it; null without a second one. */
const noiseOf = (sites: readonly SiteSamples[]): Residuals | null => {
  const pairs = sites.flatMap(({ restartNs }) =>
    restartNs.slice(1).map((measured, at) => ({ predicted: restartNs[at], measured })),
  );
  return pairs.length === 0 ? null : residualsOf(pairs);
};

/**
 * Fits a machine to its samples, starting from a profile and a stack whose other numbers it keeps; without `tables`, its
 * numbers alone; with `isNear`, from where the numbers of the base are, and nowhere else.
 * Throws SimError where the result breaks the schema of profiles or stacks.
 */
export const fitMachine = (
  samples: Samples,
  base: MachineDescription,
  name: string,
  { tables = true, isNear = false } = {},
): FittedMachine => {
  const { machine, sites } = samples;
  const description = structuredClone({ hardware: base.hardware, stack: base.stack });
  const source = `measured on ${machine.name} (${machine.runtime}${machine.driver === '' ? '' : `, driver ${machine.driver}`})`;
  const constant =
    (status: string, how?: string) =>
    (value: number): Constant => ({
      value,
      status,
      source,
      date: machine.date,
      ...(how === undefined ? {} : { how }),
    });
  if (isProcessor(machine)) describeProcessor(description, samples, constant);
  for (const site of sites) {
    if (site.reading === undefined) continue;
    const ns = measuredNs(site);
    const value = site.readingBytes === undefined ? ns : site.readingBytes / ns;
    put(description, site.reading, constant('measured', `${site.benchmark}, ${site.id}`)(value));
  }
  describeTiles(description, machine, constant('measured')(1));
  const predictable = sites.filter(({ operations }) => operations.length > 0);
  const shownLaws = lawsOf(predictable)
    .flatMap((law) => (isProcessor(machine) ? (processorLaw(law) ?? []) : law))
    .filter((law) => predictable.some((site) => law.shows(site) && !isHeldOut(site)));
  const measured = new Set([
    ...sites.flatMap(({ reading }) => (reading === undefined ? [] : [reading])),
    ...shownLaws.flatMap(({ parameters }) => parameters),
  ]);
  const leftOut = new Map<SiteSamples, Pair>();
  const finishing: (() => void)[] = [];
  const laws = shownLaws.map((law): FittedLaw => {
    const shown = predictable.filter((site) => law.shows(site));
    for (const path of [...law.parameters, ...(law.errorPath === undefined ? [] : [law.errorPath])]) {
      const first = law.first?.[path] ?? FIRST[path.split('.').at(-1) as keyof typeof FIRST] ?? 1;
      if (valueAt(description, path) === undefined) put(description, path, constant('fitted')(first));
    }
    for (const [path, value] of Object.entries(law.taken ?? {}))
      put(description, path, constant('assumed', 'not told apart by what was measured')(value));
    for (const [path, { value, how }] of Object.entries(law.stated ?? {}))
      put(description, path, { ...constant('measured', how)(1), value });
    const kept = shown.filter((site) => !isHeldOut(site));
    const left = shown.filter(isHeldOut);
    const tabulate = (from: readonly SiteSamples[], choices?: readonly AxisChoice[]) =>
      tables && law.table !== undefined
        ? fitTable(description, law.table, { shown, from }, constant('fitted', law.name)(1), choices)
        : [];
    if (law.table !== undefined) dropTable(description, law.table.name);
    const taken = kept.length < law.parameters.length ? (law.scarce ?? {}) : {};
    for (const [path, of] of Object.entries(taken)) {
      const value = valueAt(description, of);
      if (value !== undefined) put(description, path, constant('assumed', `as ${of}`)(value));
    }
    const numbers = law.parameters.filter((path) => !Object.hasOwn(taken, path));
    const fittedOn = kept.map((site) => law.instead?.(site, predictable) ?? site);
    if (numbers.length > 0)
      fitLaw(description, { ...law, parameters: numbers }, fittedOn, constant('fitted', law.name), isNear);
    const axes = tabulate(kept);
    const pairs = pairsOf(description, left.length > 0 ? left : shown);
    const errors = residualsOf(pairs);
    left.forEach((site, at) => {
      leftOut.set(site, pairs[at]);
    });
    if (law.errorPath !== undefined)
      put(
        description,
        law.errorPath,
        constant('fitted', ERROR_HOW)(Math.max(errors.p95Ape, noiseOf(shown)?.p95Ape ?? 0)),
      );
    const fitted = {
      law: law.name,
      values: Object.fromEntries(
        law.parameters.map((path) => [path, valueAt(description, path) ?? Number.NaN]),
      ),
      fit: residualsOf(pairsOf(description, kept)),
      heldOut: left.length > 0 ? errors : null,
    };
    // A codec's law stands on that of all codecs, whose table must not know yet what was left out.
    finishing.push(() => tabulate(shown, axes));
    return fitted;
  });
  for (const finish of finishing) finish();
  if (!isProcessor(machine)) keepShares(description, base, measured);
  return {
    hardware: loadProfile({ ...description.hardware, name }, `fit of ${name}`),
    stack: loadStack(description.stack, `stack of ${name}`),
    laws,
    heldOut: leftOut.size > 0 ? residualsOf([...leftOut.values()]) : null,
    noise: noiseOf(sites),
  };
};
