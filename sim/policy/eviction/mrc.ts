/**
 * Miss-ratio curves: hits of eviction rules at several capacities over the blocks of one request trace, with what the
 * curves can reach at best (an infinite cache) and a digest of everything that they depend on. Isomorphic.
 */
import { createDigest, digestOfJson } from '../../engine/digest.ts';
import { resolveConfig } from './eviction.ts';
import { loadEviction } from './evictions.ts';
import { type BlockRequests, type HitCounting, infiniteHits, replay } from './replay.ts';

export interface MrcPoint {
  readonly capacityBlocks: number;
  readonly hits: number;
  readonly accesses: number;
  /** hits / accesses, 0..1. */
  readonly hitRatio: number;
}

export interface MrcCurve {
  readonly eviction: string;
  /** All parameters of the rule, defaults filled. */
  readonly config: Readonly<Record<string, unknown>>;
  /** True for a rule that reads the future. */
  readonly offline: boolean;
  /** By rising capacity. */
  readonly points: readonly MrcPoint[];
}

export interface MrcOptions {
  readonly requests: BlockRequests;
  /** Names of rules, in the order of the curves. */
  readonly evictions: readonly string[];
  /** Blocks, whole numbers >= 0. */
  readonly capacities: readonly number[];
  readonly counting: HitCounting;
  /** Parameters by rule. */
  readonly configs?: Readonly<Record<string, Readonly<Record<string, unknown>>>> | undefined;
  /** Points done so far, after each. */
  readonly onProgress?: ((points: number) => void) | undefined;
}

export interface MrcRun {
  readonly curves: readonly MrcCurve[];
  readonly infiniteHits: number;
  /** Of the blocks that were replayed. */
  readonly blocksDigest: string;
  /** Of blocks, rules, parameters, capacities, counting and hits. */
  readonly digest: string;
}

/** SHA-256 of which blocks the requests use, in order. */
const digestOfBlocks = ({ offsets, blockIds }: BlockRequests): string => {
  const digest = createDigest();
  for (const column of [offsets, blockIds]) {
    digest.addBytes(new Uint8Array(column.buffer, column.byteOffset, column.byteLength));
  }
  return digest.hex();
};

/** Throws SimError 'unknown-name' | 'invalid-input' before anything is replayed. */
export const missRatioCurves = (options: MrcOptions): MrcRun => {
  const { requests, counting, configs = {}, onProgress } = options;
  const capacities = [...new Set(options.capacities)].sort((a, b) => a - b);
  const rules = [...new Set(options.evictions.map((name) => loadEviction(name)))];
  const chosen = rules.map((rule) => ({ rule, config: resolveConfig(rule, configs[rule.kind]) }));
  let done = 0;
  const curves = chosen.map(({ rule, config }): MrcCurve => {
    const points = capacities.map((capacityBlocks): MrcPoint => {
      const { hits, accesses } = replay({ eviction: rule, config, capacityBlocks, requests, counting });
      onProgress?.(++done);
      return { capacityBlocks, hits, accesses, hitRatio: accesses === 0 ? 0 : hits / accesses };
    });
    return { eviction: rule.kind, config, offline: rule.offline, points };
  });
  const blocksDigest = digestOfBlocks(requests);
  return {
    curves,
    infiniteHits: infiniteHits(requests, counting),
    blocksDigest,
    digest: digestOfJson({ blocksDigest, counting, curves }),
  };
};
