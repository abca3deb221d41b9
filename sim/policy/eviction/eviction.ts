/**
 * What a block-eviction rule is: which of equally large blocks leaves a full tier. One file a rule, no time, no bytes.
 * Contract (cache-laws.test.ts holds every rule to it): an inserted block is resident, evict() removes exactly one
 * block, never more than `capacityBlocks` stay, and block ids mean nothing (renaming them changes no hit).
 */
import type * as z from 'zod';
import { invariant, SimError } from '../../error.ts';

/** Resident blocks of one tier. Blocks are dense ids of 0 .. universe - 1. */
export interface BlockCache {
  /** Blocks that fit, >= 0. */
  readonly capacityBlocks: number;
  /** Blocks resident now, 0 .. capacityBlocks. */
  readonly residentBlocks: number;
  /** Is the block resident? Changes nothing, so a lookup may ask before it knows how far the prefix reaches. */
  has(id: number): boolean;
  /** A hit on a resident block: promotes it as the rule says. */
  touch(id: number): void;
  /** Pushes one resident block out (there must be one) and returns it. `incomingId` is the block that needs the room. */
  evict(incomingId: number): number;
  /** Takes in a block that is not resident; there must be room. */
  insert(id: number): void;
}

/** One plain access: hit (true) or miss, after which the block is resident if the tier has any room at all. */
export const accessBlock = (cache: BlockCache, id: number): boolean => {
  if (cache.has(id)) {
    cache.touch(id);
    return true;
  }
  if (cache.residentBlocks >= cache.capacityBlocks) {
    if (cache.capacityBlocks === 0) return false;
    cache.evict(id);
  }
  cache.insert(id);
  return false;
};

export interface Eviction<S extends z.ZodObject = z.ZodObject> {
  readonly kind: string;
  readonly title: string;
  /** Paper or document that the rule follows. */
  readonly source: string;
  /** True for a rule that reads the future, a bound and not a candidate. */
  readonly offline: boolean;
  /**
   * Order in which a request's new blocks enter. Rules that order by recency take them tail first, so that the head,
   * which every longer prefix needs, is the newest (vLLM touches in this order too); queues take them as written.
   */
  readonly entry: 'head-first' | 'tail-first';
  readonly config: S;
  /**
   * A cache of `capacityBlocks` >= 1 blocks out of `universe` ids. `future` is the whole sequence of accesses that
   * will be replayed, in order; only offline rules read it. Use createBlockCache, which checks the arguments.
   */
  create(capacityBlocks: number, universe: number, config: z.infer<S>, future: Int32Array): BlockCache;
}

export interface BlockCacheOptions {
  readonly capacityBlocks: number;
  /** Ids are 0 .. universe - 1. */
  readonly universe: number;
  /** Parameters of the rule; missing ones take their defaults. */
  readonly config?: Readonly<Record<string, unknown>> | undefined;
  /** Needed by offline rules only: the accesses to come, in order. */
  readonly future?: Int32Array | undefined;
}

const NO_FUTURE = new Int32Array(0);

/** A tier without room: every access misses and nothing stays. */
const emptyCache: BlockCache = {
  capacityBlocks: 0,
  residentBlocks: 0,
  has: () => false,
  touch: () => invariant(false, 'touch of a block in a tier without room'),
  evict: () => -1,
  insert: () => invariant(false, 'insert into a tier without room'),
};

/** Parameters of a rule with all defaults filled. Throws SimError 'invalid-input' that names rule and field. */
export const resolveConfig = (
  eviction: Eviction,
  config: Readonly<Record<string, unknown>> = {},
): Record<string, unknown> => {
  const parsed = eviction.config.strict().safeParse(config);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const field = [eviction.kind, ...issue.path.map(String)].join('.');
  throw new SimError('invalid-input', `${field}: ${issue.message}`, { cause: parsed.error });
};

/** The one way to make a cache. Capacity 0 is a tier that keeps nothing. Throws SimError 'invalid-input'. */
export const createBlockCache = (eviction: Eviction, options: BlockCacheOptions): BlockCache => {
  const { capacityBlocks, universe } = options;
  if (!Number.isSafeInteger(capacityBlocks) || capacityBlocks < 0) {
    throw new SimError(
      'invalid-input',
      `capacityBlocks: expected a whole number >= 0, got ${capacityBlocks}`,
    );
  }
  const config = resolveConfig(eviction, options.config);
  if (capacityBlocks === 0) return emptyCache;
  invariant(!eviction.offline || options.future !== undefined, `${eviction.kind} needs the accesses to come`);
  return eviction.create(capacityBlocks, universe, config, options.future ?? NO_FUTURE);
};
