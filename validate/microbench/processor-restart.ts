/**
 * A restart on a processor, whose last cache may hold half a gigabyte: sites lie side by side in blocks, the caches are
 * emptied once for a block, and each site's passes then meet cold memory one after the other (cold-passes.ts). Each site is
 * visited twice, at other places and between others; the quieter visit counts.
 */
import type { Backend } from '../../kernels/backend.ts';
import type { Call } from '../../kernels/calls.ts';
import { createRandom } from '../../kernels/random.ts';
import { Memory } from '../execute/memory.ts';
import { type Block, blocksOf, sizesOfBlocks } from './blocks.ts';
import { timeColdPasses } from './cold-passes.ts';
import { layOut } from './lay-out.ts';
import { sizesOf } from './memory-groups.ts';
import type { Bounds, Site } from './microbench.ts';
import { timeSite, unlessUnsupported } from './time-site.ts';
import { keyOf, type NamedSite, quieter, type RestartTimes, shuffled } from './visits.ts';

const VISITS = 2;
/** A quarter more than the caches hold. */
const FLUSHED_CACHES = 1.25;

/** Puts other memory through the caches. */
const flush = async (backend: Backend, bounds: Bounds): Promise<void> => {
  const nothing: Call = { kernel: 'empty', stream: 'compute', after: [], refs: {}, ints: {} };
  const flushBytes = Math.ceil(FLUSHED_CACHES * bounds.l2Bytes);
  await backend.run([nothing], { warmups: 0, repeats: 1, flushBytes });
};

const timesOf = async (
  backend: Backend,
  calls: readonly Call[],
  site: Site,
  budgetNs: number,
): Promise<readonly number[]> =>
  site.fresh === true
    ? await timeSite(backend, calls, site, budgetNs)
    : await timeColdPasses(backend, calls, site.passes, budgetNs);

/** One restart in about `limitMs`: late sites make fewer passes, and no block is visited again when the time is used up. */
export const runProcessorRestart = async (
  backend: Backend,
  sites: readonly NamedSite[],
  bounds: Bounds,
  seed: number,
  onProgress?: (share: number) => void,
  limitMs = Infinity,
): Promise<RestartTimes> => {
  const endMs = performance.now() + limitMs;
  const random = createRandom(seed);
  const sized = sites.map((one) => ({ one, sizes: sizesOf(one.site) }));
  const rounds = Array.from({ length: VISITS }, () => blocksOf(shuffled(sized, random), bounds));
  const count = rounds.flat().reduce((sum, block) => sum + block.sites.length, 0);
  const senses: Readonly<Record<string, number>>[] = [];
  const samplesNs: Record<string, readonly number[]> = {};
  let done = 0;
  const visit = async (memory: Memory, { sites: placed }: Block): Promise<void> => {
    const lists: (readonly Call[])[] = [];
    for (const { one, base } of placed) lists.push(await layOut(one.site, memory, base));
    senses.push(await backend.sense());
    await flush(backend, bounds);
    for (const [at, { one }] of placed.entries()) {
      const budgetNs = (1e6 * (endMs - performance.now())) / Math.max(1, count - done);
      const times = await unlessUnsupported(timesOf(backend, lists[at], one.site, budgetNs));
      const key = keyOf(one);
      if (times !== null) samplesNs[key] = quieter(samplesNs[key], times);
      done++;
    }
    senses.push(await backend.sense());
    onProgress?.(Math.min(1, done / count));
  };
  const memory = await Memory.allocate(backend, sizesOfBlocks(rounds.flat()), 1);
  try {
    for (const [round, blocks] of rounds.entries())
      for (const block of blocks) if (round === 0 || performance.now() < endMs) await visit(memory, block);
  } finally {
    memory.free();
  }
  onProgress?.(1);
  return { senses, samplesNs };
};
