/**
 * Times sites on a backend: in random order, interleaved over benchmarks, in several restarts, with clocks and
 * temperatures noted; sites of a block in which the clock drifted are timed again. Protocol: docs/calibration.md.
 */
import type { Backend } from '../../kernels/backend.ts';
import { createRandom } from '../../kernels/random.ts';
import type { Operation } from '../../sim/program/operation.ts';
import type { Memory } from '../execute/memory.ts';
import { medianOf, SAMPLES_FORMAT, type Samples, type SiteSamples } from '../samples.ts';
import { catalog } from './catalog.generated.ts';
import { layOut } from './lay-out.ts';
import { allocateGroup, type MemoryGroup, type MostMemory } from './memory-groups.ts';
import { type Bounds, bytesBetween, codecOf, flopsOf, type Microbench, type Site } from './microbench.ts';
import { timeSite, unlessUnsupported } from './time-site.ts';
import { keyOf, type NamedSite, quieter, type RestartTimes, shuffled } from './visits.ts';

/** A clock that moved by more than this between the ends of a block spoils it. */
const DRIFT_RATIO = 0.03;
const BLOCK_SITES = 24;
/** A grid of sizes made for GPUs would take a processor minutes: so many sites of a kernel, drawn once, are enough. */
const PROCESSOR_SITES = 20;

/**
 * Times that a site is visited in a restart where threads of the host take part: what else runs on a shared host slows it
 * down for tens of milliseconds, as long as all repeats of a site, and its quietest visit counts. As often as steps are
 * timed in rounds, so that neither is quieter than the other.
 */
const HOST_VISITS = 2;

const benches: readonly Microbench[] = Object.values(catalog);

export const microbenchNames: readonly string[] = benches.map(({ name }) => name);

/** What a backend lets benchmarks take: a share of each tier, since others use the machine too. A processor's are one. */
export const boundsOf = ({ name, device }: Backend, most: MostMemory): Bounds => ({
  backend: name,
  units: Math.max(1, device.units),
  l2Bytes: Math.max(2 ** 20, device.l2Bytes),
  hbmBytes: Math.min(most.hbmBytes, Math.max(2 ** 26, device.hbmBytes / (name === 'cuda' ? 2 : 8))),
  dramBytes: Math.min(most.dramBytes, Math.max(2 ** 26, device.dramBytes / 8)),
  kernels: new Set(device.kernels),
});

/** Flops of a site's passes that a processor gets through in a tenth of a second: more would tell nothing new. */
const MOST_FLOPS = 2e10;

const isAffordable = ({ operations, passes }: Site, { backend }: Bounds): boolean =>
  backend === 'cuda' || passes * operations.reduce((sum, one) => sum + flopsOf(one), 0) <= MOST_FLOPS;

/** Whether threads of the host, or a disk of theirs, do part of an operation. */
const isOfHost = (operation: Operation): boolean => {
  if (operation.kind === 'fetch' || operation.kind === 'spill')
    return (
      operation.from === 'nvme' || operation.to === 'nvme' || !['dma', 'uva', 'gds'].includes(operation.mode)
    );
  return (operation.kind === 'attend' || operation.kind === 'score') && operation.where === 'cpu';
};

/** Whether threads of the host, or of its driver, read memory: passes of small sites would find it in their caches. */
const readsOnHost = ({ operations, reading }: Site): boolean =>
  reading === 'hardware.host.cpu.readBytesPerNs' ||
  operations.some(
    (operation) =>
      isOfHost(operation) && (!('mode' in operation) || ['cpu-gather', 'pageable'].includes(operation.mode)),
  );

/** On a GPU's host what threads read comes from memory, as where a model's other layers and requests pass between. */
const coldOnHost = (site: Site, bounds: Bounds): Site =>
  bounds.backend === 'cuda' && readsOnHost(site)
    ? { ...site, options: { ...site.options, flushBytes: bytesBetween(bounds) } }
    : site;

const visitsOf = ({ site }: NamedSite, { name }: Backend): number =>
  name === 'cuda' && site.operations.some(isOfHost) ? HOST_VISITS : 1;

const fewerOf = (sites: readonly Site[], { backend }: Bounds): readonly Site[] => {
  if (backend === 'cuda') return sites;
  const taken = new Map<string, number>();
  const drawn = new Set<Site>();
  for (const site of shuffled(sites, createRandom(1))) {
    const codec = codecOf(site);
    const kernel = `${site.law ?? ''} ${codec ?? ''}`;
    const count = taken.get(kernel) ?? 0;
    taken.set(kernel, count + 1);
    const isOne = codec === undefined && site.law === undefined;
    if (count < PROCESSOR_SITES / (isOne ? 1 : 2) || site.operations.length === 0) drawn.add(site);
  }
  return sites.filter((site) => drawn.has(site));
};

/** Sites of all benchmarks (or of those named) that the backend has the kernels for, and why the others are left out. */
export const sitesOf = (bounds: Bounds, only?: readonly string[]) => {
  const sites: NamedSite[] = [];
  const skipped: string[] = [];
  for (const bench of benches) {
    if (only !== undefined && !only.includes(bench.name)) continue;
    const missing = bench.kernels.filter((kernel) => !bounds.kernels.has(kernel));
    if (missing.length > 0)
      skipped.push(`${bench.name}: no kernel ${missing.join(', ')} on ${bounds.backend}`);
    else {
      const affordable = bench.sites(bounds).filter((site) => isAffordable(site, bounds));
      sites.push(
        ...fewerOf(affordable, bounds).map((site) => ({
          benchmark: site.law ?? bench.name,
          site: coldOnHost(site, bounds),
        })),
      );
    }
  }
  return { sites, skipped };
};

const drifted = (
  before: Readonly<Record<string, number>>,
  after: Readonly<Record<string, number>>,
): boolean =>
  Object.keys(before).some(
    (name) => name.endsWith('Mhz') && Math.abs(after[name] / before[name] - 1) > DRIFT_RATIO,
  );

/**
 * One restart: all sites once, those of the host on several visits, group by group of those that share memory, in an order
 * of its own, in about `limitMs`: late ones are repeated less, and none is visited again when the time is used up.
 * `onProgress` gets the share done.
 */
export const runRestart = async (
  backend: Backend,
  groups: readonly MemoryGroup<NamedSite>[],
  seed: number,
  onProgress?: (share: number) => void,
  limitMs = Infinity,
): Promise<RestartTimes> => {
  const endMs = performance.now() + limitMs;
  const random = createRandom(seed);
  const senses: Readonly<Record<string, number>>[] = [];
  const samplesNs: Record<string, readonly number[]> = {};
  const visited = groups.map((group) => ({
    group,
    sites: group.sites.flatMap((one) => Array.from({ length: visitsOf(one, backend) }, () => one)),
  }));
  const count = visited.reduce((sum, { sites }) => sum + sites.length, 0);
  let done = 0;
  const runBlock = async (memory: Memory, block: readonly NamedSite[]): Promise<void> => {
    const taken = new Map<string, readonly number[]>();
    for (let attempt = 0; attempt < 2; attempt++) {
      const before = await backend.sense();
      taken.clear();
      for (const [at, one] of block.entries()) {
        const key = keyOf(one);
        const isVisited = taken.has(key) || key in samplesNs;
        if (isVisited && performance.now() > endMs) continue;
        const left = count - done - at;
        const budgetNs = (1e6 * (endMs - performance.now())) / Math.max(1, left);
        const calls = await layOut(one.site, memory);
        const times = await unlessUnsupported(timeSite(backend, calls, one.site, budgetNs));
        if (times !== null) taken.set(key, quieter(taken.get(key), times));
      }
      const after = await backend.sense();
      senses.push(before, after);
      if (!drifted(before, after) || performance.now() > endMs) break;
    }
    for (const [key, times] of taken) samplesNs[key] = quieter(samplesNs[key], times);
    done += block.length;
    onProgress?.(Math.min(1, done / count));
  };
  for (const { group, sites } of shuffled(visited, random)) {
    const memory = await allocateGroup(group, backend);
    const order = shuffled(sites, random);
    try {
      for (let from = 0; from < order.length; from += BLOCK_SITES)
        await runBlock(memory, order.slice(from, from + BLOCK_SITES));
    } finally {
      memory.free();
    }
  }
  return { senses, samplesNs };
};

/** Restarts put together as samples; sites that no restart has are left out. */
export const samplesOf = (
  { name, device }: Pick<Backend, 'name' | 'device'>,
  sites: readonly NamedSite[],
  restarts: readonly RestartTimes[],
  date: string,
): Samples => ({
  format: SAMPLES_FORMAT,
  machine: {
    backend: name,
    name: device.name,
    driver: device.driver,
    runtime: device.runtime,
    units: device.units,
    l2Bytes: device.l2Bytes,
    hbmBytes: device.hbmBytes,
    dramBytes: device.dramBytes,
    ...(device.clusters === undefined || device.clusters.length === 0
      ? {}
      : { clusters: [...device.clusters] }),
    date,
    emulated: [...device.emulated],
  },
  senses: restarts.flatMap(({ senses }) => senses.map((sense) => ({ ...sense }))),
  sites: sites.flatMap((one): SiteSamples[] => {
    const samplesNs = restarts.flatMap(({ samplesNs: times }) => {
      const own = times[keyOf(one)];
      return own === undefined ? [] : [[...own]];
    });
    if (samplesNs.length === 0) return [];
    const { id, operations, reading, readingBytes } = one.site;
    return [
      {
        benchmark: one.benchmark,
        id,
        operations: [...operations],
        ...(reading === undefined ? {} : { reading }),
        ...(readingBytes === undefined ? {} : { readingBytes }),
        restartNs: samplesNs.map(medianOf),
        samplesNs,
      },
    ];
  }),
});
