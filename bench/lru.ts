/**
 * LRU block replay: accesses a second through the code that `kvtier mrc` runs, on 5·10^6 Zipf(1) accesses to 10^5
 * blocks and on the shipped Mooncake conversation trace (block by block; libCacheSim does 2.9 to 3.8 M/s on it on the
 * same kind of machine). The slower of the two counts. Hits must be exactly those that are known.
 */
import { createRandom } from '../sim/engine/random.ts';
import { eviction as lru } from '../sim/policy/eviction/lru.ts';
import { type BlockRequests, replay } from '../sim/policy/eviction/replay.ts';
import { readRequestFile } from '../traces/requests/node-file.ts';
import { conversationSample } from '../traces/requests/sample.ts';
import { type Bench, fastestOf } from './bench.ts';

const ACCESSES = 5_000_000;
const BLOCKS = 100_000;
const CAPACITY = 10_000;
const ZIPF_HITS = 3_683_697;
const MOONCAKE_HITS = 60_921;
/** The Mooncake trace is short: it is replayed this many times a run. */
const MOONCAKE_REPEATS = 10;

/** Zipf(1) by inversion of the cumulative weights 1/rank; ranks get shuffled ids, so that hot blocks are not neighbours. */
const zipfAccesses = (): BlockRequests => {
  const random = createRandom(42, 'zipf');
  const cumulative = new Float64Array(BLOCKS);
  let sum = 0;
  for (let rank = 0; rank < BLOCKS; rank++) {
    sum += 1 / (rank + 1);
    cumulative[rank] = sum;
  }
  const ids = Int32Array.from({ length: BLOCKS }, (_, rank) => rank);
  random.shuffle(ids);
  const blockIds = new Int32Array(ACCESSES);
  for (let at = 0; at < ACCESSES; at++) {
    const wanted = random.uniform() * sum;
    let low = 0;
    let high = BLOCKS - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (cumulative[middle] <= wanted) low = middle + 1;
      else high = middle;
    }
    blockIds[at] = ids[low];
  }
  return { offsets: Int32Array.of(0, ACCESSES), blockIds, uniqueBlocks: BLOCKS };
};

const hitsOf = (requests: BlockRequests): number =>
  replay({ eviction: lru, capacityBlocks: CAPACITY, requests, counting: 'block' }).hits;

export const bench: Bench = {
  name: 'LRU block replay',
  budget: 20,
  unit: 'M accesses/s',
  async run(iterationsPerS) {
    const zipf = zipfAccesses();
    const mooncake = await readRequestFile(conversationSample());
    const onZipf = fastestOf(5, () => hitsOf(zipf));
    const onMooncake = fastestOf(5, () => {
      let hits = 0;
      for (let repeat = 0; repeat < MOONCAKE_REPEATS; repeat++) hits = hitsOf(mooncake);
      return hits;
    });
    const zipfPerS = ACCESSES / onZipf.seconds;
    const mooncakePerS = (MOONCAKE_REPEATS * mooncake.blockIds.length) / onMooncake.seconds;
    const perS = Math.min(zipfPerS, mooncakePerS);
    const ok = onZipf.last === ZIPF_HITS && onMooncake.last === MOONCAKE_HITS;
    const detail =
      `Zipf ${(zipfPerS / 1e6).toFixed(1)} M/s, ${onZipf.last} hits; ` +
      `Mooncake ${(mooncakePerS / 1e6).toFixed(1)} M/s, ${onMooncake.last} hits`;
    return { value: perS / 1e6, ratio: perS / iterationsPerS, ok, detail };
  },
};
