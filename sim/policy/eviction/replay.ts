/**
 * Replays the blocks of a request trace through one tier with one eviction rule, without time: a block is there as
 * soon as its request has passed. Two ways to count, always named in the result:
 * `prefix` – what a prefix cache can reuse: the leading blocks of a request that are resident when it arrives.
 * `block`  – every block on its own, accessed head first: the classic miss-ratio curve of the block stream.
 */
import { invariant } from '../../error.ts';
import { accessBlock, type BlockCache, createBlockCache, type Eviction } from './eviction.ts';

export type HitCounting = 'prefix' | 'block';

/** Blocks of requests in order of arrival: request r uses blockIds[offsets[r] .. offsets[r + 1]), head of its prompt first. */
export interface BlockRequests {
  readonly offsets: Int32Array;
  /** Dense ids, 0 .. uniqueBlocks - 1. */
  readonly blockIds: Int32Array;
  readonly uniqueBlocks: number;
}

export interface ReplayResult {
  readonly hits: number;
  /** Blocks asked for, hits included. */
  readonly accesses: number;
}

/** Every access by itself. The cache must be new. */
const replayBlocks = (cache: BlockCache, blockIds: Int32Array): number => {
  let hits = 0;
  for (let at = 0; at < blockIds.length; at++) if (accessBlock(cache, blockIds[at])) hits++;
  return hits;
};

/** Takes in the request's missing blocks: room for all of them first, then one after another. */
const insertMissing = (cache: BlockCache, missing: Int32Array, count: number, distinct: number): void => {
  const { capacityBlocks } = cache;
  for (let k = 0; cache.residentBlocks > 0 && cache.residentBlocks + distinct > capacityBlocks; k++) {
    cache.evict(missing[k % count]);
  }
  for (let k = 0; k < count; k++) accessBlock(cache, missing[k]);
};

/**
 * Request by request, as serving engines do it: count the leading resident blocks; touch all resident blocks of the
 * request, tail first; make room for its missing blocks at once; insert them. A block that was touched may leave while
 * room is made: it has been read by then. Of a request larger than the tier, what entered last stays.
 * (Room made block by block instead moves S3-FIFO by 0.01 to 0.1 points on the Mooncake conversation trace, LRU not.)
 */
const replayPrefixes = (cache: BlockCache, requests: BlockRequests, entry: Eviction['entry']): number => {
  const { offsets, blockIds } = requests;
  const missing = new Int32Array(longestRequest(offsets));
  /** The latest request that missed the block: an id that a request repeats needs room once. */
  const missedBy = new Int32Array(requests.uniqueBlocks).fill(-1);
  let hits = 0;
  for (let request = 0; request + 1 < offsets.length; request++) {
    const start = offsets[request];
    const end = offsets[request + 1];
    let leading = start;
    while (leading < end && cache.has(blockIds[leading])) leading++;
    hits += leading - start;
    let count = 0;
    let distinct = 0;
    for (let at = end - 1; at >= start; at--) {
      const id = blockIds[at];
      if (at < leading || cache.has(id)) cache.touch(id);
      else {
        missing[count++] = id;
        if (missedBy[id] !== request) distinct++;
        missedBy[id] = request;
      }
    }
    if (count === 0) continue;
    if (entry === 'head-first') missing.subarray(0, count).reverse();
    insertMissing(cache, missing, count, distinct);
  }
  return hits;
};

const longestRequest = (offsets: Int32Array): number => {
  let longest = 0;
  for (let r = 0; r + 1 < offsets.length; r++) longest = Math.max(longest, offsets[r + 1] - offsets[r]);
  return longest;
};

export interface ReplayOptions {
  readonly eviction: Eviction;
  readonly capacityBlocks: number;
  readonly requests: BlockRequests;
  readonly counting: HitCounting;
  /** Parameters of the rule; missing ones take their defaults. */
  readonly config?: Readonly<Record<string, unknown>> | undefined;
}

/** One point of a miss-ratio curve. Throws SimError 'invalid-input' for a capacity or a parameter out of range. */
export const replay = (options: ReplayOptions): ReplayResult => {
  const { eviction, capacityBlocks, requests, counting, config } = options;
  const { blockIds, uniqueBlocks } = requests;
  const cache = createBlockCache(eviction, {
    capacityBlocks,
    universe: uniqueBlocks,
    config,
    future: blockIds,
  });
  const hits =
    counting === 'block' ? replayBlocks(cache, blockIds) : replayPrefixes(cache, requests, eviction.entry);
  invariant(cache.residentBlocks <= capacityBlocks, `${eviction.kind}: more blocks resident than fit`);
  return { hits, accesses: blockIds.length };
};

/**
 * Hits of a cache that never evicts: what is left are compulsory misses. One pass; with prefix counting a request
 * hits up to its first block never seen before.
 */
export const infiniteHits = (requests: BlockRequests, counting: HitCounting): number => {
  const { offsets, blockIds, uniqueBlocks } = requests;
  const seen = new Uint8Array(uniqueBlocks);
  let hits = 0;
  for (let request = 0; request + 1 < offsets.length; request++) {
    let leading = true;
    for (let at = offsets[request]; at < offsets[request + 1]; at++) {
      // Within one request a block counts as seen before only if it was so when the request arrived.
      if (seen[blockIds[at]] === 0) leading = false;
      else if (leading || counting === 'block') hits++;
      if (counting === 'block') seen[blockIds[at]] = 1;
    }
    for (let at = offsets[request]; at < offsets[request + 1]; at++) seen[blockIds[at]] = 1;
  }
  return hits;
};
