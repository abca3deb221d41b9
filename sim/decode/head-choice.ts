/**
 * What one KV head attends to in one step, token by token and where each lies: what a kernel backend needs to run the
 * step on real memory. A step's demand has the same numbers as means over heads; here are the rows themselves.
 */
import { SimError } from '../error.ts';
import { type HeadCache, IN_DRAM, IN_HBM, IN_NVME } from '../memory/head-cache.ts';
import { bitCount, EVERY_QUERY, type Selection } from '../quality/selection.ts';

/** Where an attended token is read: it lay in HBM, it crosses the link first, or the CPU attends to it. */
export const RUN_PLACES = ['hbm', 'fetched', 'cpu'] as const;
export type RunPlace = (typeof RUN_PLACES)[number];

/** Neighbouring tokens that lie side by side and are read alike. */
export interface TokenRun {
  /** Tokens [from, from + count) of the sequence. */
  readonly from: number;
  count: number;
  /** Position of the first in the tier: packed in token order among those of its form, or as the policy lays them out. */
  readonly slot: number;
  readonly place: RunPlace;
  readonly form: number;
  /** Query heads of the group that attend to them, one bit each; -1 = all. */
  readonly queries: number;
}

export interface HeadChoice {
  readonly kvHead: number;
  /** Tokens written so far. */
  readonly length: number;
  /**
   * Tokens that each tier holds, by stored form, gaps of the policy's own layout of DRAM included; copies for query heads
   * not counted.
   */
  readonly hbmTokens: readonly number[];
  readonly dramTokens: readonly number[];
  /** Ascending by `from`; where some query heads' copies cross the link and others lie ready, a token is in two runs. */
  readonly runs: readonly TokenRun[];
  /** True where HBM holds copies for query heads, each of which reads its own. */
  readonly isCopied: boolean;
  /** Rows in HBM that stand for tokens which are not attended one by one. */
  readonly estimatedRows: number;
}

const sameRun = (run: TokenRun | undefined, next: TokenRun): boolean =>
  run !== undefined &&
  run.from + run.count === next.from &&
  run.slot + run.count === next.slot &&
  run.place === next.place &&
  run.form === next.form &&
  run.queries === next.queries;

/** The first `count` bits of a set. */
const firstBits = (set: number, count: number): number => {
  let taken = 0;
  for (let left = count, rest = set; left > 0 && rest !== 0; left--) {
    taken |= rest & -rest;
    rest &= rest - 1;
  }
  return taken;
};

const extend = (runs: TokenRun[], next: TokenRun): void => {
  const before = [runs.at(-1), runs.at(-2)].find((run) => sameRun(run, next));
  if (before === undefined) runs.push(next);
  else before.count++;
};

/**
 * The choice of a head after its policy chose and before the cache forgets what moved. `farPlace` = what happens to what
 * lies in DRAM.
 */
export const captureChoice = (
  kvHead: number,
  cache: HeadCache,
  { all, marks, estimates }: Selection,
  farPlace: 'fetched' | 'cpu',
  groupSize: number,
): HeadChoice => {
  const { place, form, arrived, copies, tokens, forms, farSlots } = cache;
  const everyQuery = groupSize >= 32 ? EVERY_QUERY : (1 << groupSize) - 1;
  const hbmTokens = forms.map(() => 0);
  const dramTokens = forms.map(() => 0);
  const runs: TokenRun[] = [];
  let isCopied = false;
  for (let token = 0; token < tokens; token++) {
    const tiers = place[token];
    if (tiers === 0) continue;
    if (tiers === IN_NVME)
      throw new SimError('not-supported', 'KV on nvme: predicted only, kernel backends do not run it');
    const own = form[token];
    const inHbm = (tiers & IN_HBM) !== 0;
    const hbmSlot = hbmTokens[own];
    const dramSlot = farSlots?.[token] ?? dramTokens[own];
    if (inHbm) hbmTokens[own]++;
    if ((tiers & IN_DRAM) !== 0) dramTokens[own] = Math.max(dramTokens[own], dramSlot + 1);
    const queries = all ? EVERY_QUERY : marks[token];
    if (queries === 0) continue;
    const run = { from: token, count: 1, form: own };
    const reads = Math.min(bitCount(queries & everyQuery), copies[token]);
    if (reads > 1) isCopied = true;
    // What enters an HBM slot in this step crosses the link like any other row.
    const entering = inHbm ? Math.min(reads, arrived[token]) : reads;
    const far = entering === reads ? queries : firstBits(queries & everyQuery, entering);
    if (far !== 0)
      extend(runs, { ...run, slot: dramSlot, place: inHbm ? 'fetched' : farPlace, queries: far });
    if (far !== queries)
      extend(runs, {
        ...run,
        slot: hbmSlot,
        place: 'hbm',
        queries: far === 0 ? queries : queries & everyQuery & ~far,
      });
  }
  const estimatedRows = estimates.reduce((sum, { count }) => sum + count, 0);
  return { kvHead, length: tokens, hbmTokens, dramTokens, runs, isCopied, estimatedRows };
};
