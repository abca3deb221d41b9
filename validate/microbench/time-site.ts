/** Times one site: a probe, then as many repeats of a region of a millisecond as its share of the time allows. */
import { type Backend, KernelError } from '../../kernels/backend.ts';
import type { Call } from '../../kernels/calls.ts';
import type { Site } from './microbench.ts';

const REPEATS = 9;
/** Repeats of a site take about this long together, unless there are fewer than the least. */
const SITE_NS = { cuda: 1e8, cpu: 2.5e7, reference: 2.5e7 };
const LEAST_REPEATS = 3;
/** A timed region shorter than this is repeated back to back until it is as long. */
const REGION_NS = 1e6;

/** Times of a site; null where the backend does not support what it asks. */
export const unlessUnsupported = async <T>(times: Promise<T>): Promise<T | null> => {
  try {
    return await times;
  } catch (error) {
    if (error instanceof KernelError && error.code === 'unsupported') return null;
    throw error;
  }
};

/**
 * Times of one pass of a site, ns. `budgetNs`: what it may take in all; where that is short, less than the least repeats are
 * made, down to the probe alone. Throws KernelError.
 */
export const timeSite = async (
  backend: Backend,
  calls: readonly Call[],
  site: Site,
  budgetNs: number,
): Promise<readonly number[]> => {
  // What fills no more than a processor's caches is measured again below; what does needs no warm-up.
  const coldWarmups = backend.name === 'cuda' ? 1 : 0;
  const probe = await backend.run(calls, { ...site.options, warmups: coldWarmups, repeats: 1 });
  const [probedNs] = probe.totalNs;
  // What finds caches cold does so once.
  const most = (site.options?.flushBytes ?? 0) > 0 ? 1 : 1000;
  const inner = Math.max(1, Math.min(most, Math.ceil(REGION_NS / probedNs)));
  const regionNs = inner * probedNs;
  const wanted = Math.max(LEAST_REPEATS, Math.ceil(SITE_NS[backend.name] / regionNs));
  const affordable = Math.max(1, Math.floor(budgetNs / regionNs));
  const repeats = Math.min(REPEATS, wanted, affordable);
  // A long pass needs no second warm-up, and its first time counts.
  const isLong = repeats < REPEATS;
  const times = isLong && inner === 1 ? [probedNs] : [];
  const rest = { warmups: isLong ? 0 : 1, repeats: repeats - times.length, inner };
  if (rest.repeats > 0) times.push(...(await backend.run(calls, { ...site.options, ...rest })).totalNs);
  return times.map((ns) => ns / site.passes);
};
