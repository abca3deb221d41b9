/**
 * FastGen: after the prompt each head gets the cheapest of four caches that keeps enough of its attention: special
 * tokens, with heavy hitters, with a recent window too, or everything. arXiv 2310.01801 (recovery 0.9 to 0.95 of the
 * attention); AnswerDotAI/cold-compress cache.py, cache_configs/fastgen.yaml (0.9, heavy hitters and window 0.3 of the
 * length each, 4 first tokens always). The paper's class "punctuation" needs token classes, which traces lack.
 */
import * as z from 'zod';
import { columnsField, columnWork } from '../attention-columns.ts';
import { LENGTH_BYTES } from '../budgets.ts';
import { groupRows } from '../group-rows.ts';
import { type HeavyHitters, heavyHittersOf, type Quota, SCORE_BYTES } from '../heavy-hitters.ts';
import { type Policy, type PolicyPlugin, type PrefillView, policyDefaults, type World } from '../policy.ts';
import { promptColumns, visitPromptRows } from '../prompt-rows.ts';

const config = z.object({
  recovery: z
    .number()
    .min(0)
    .max(1)
    .default(0.9)
    .describe('share of the prompt attention that a cache must keep'),
  heavyRatio: z.number().min(0).max(1).default(0.3).describe('heavy hitters, as a share of the length'),
  windowRatio: z.number().min(0).max(1).default(0.3).describe('recent window, as a share of the length'),
  firstTokens: z.int().min(1).default(4).describe('first tokens, which stand for the special ones'),
  group: z.enum(['mean', 'max']).default('mean').describe('attention of a query group, for heavy hitters'),
  columns: columnsField,
});
type Config = z.infer<typeof config>;

/** Caches from the cheapest on; null = keep everything. */
type Cache = (length: number) => Quota | null;

const cachesOf = ({ heavyRatio, windowRatio, firstTokens: sinks }: Config): readonly Cache[] => {
  const heavy = (length: number): number => Math.ceil(heavyRatio * length);
  // The token that is being written is in every cache.
  const recent = (length: number): number => Math.max(1, Math.floor(windowRatio * length));
  return [
    () => ({ sinks, heavy: 0, recent: 1 }),
    (length) => ({ sinks, heavy: heavy(length), recent: 1 }),
    (length) => ({ sinks, heavy: heavy(length), recent: recent(length) }),
    () => null,
  ];
};

/** Mean share of a prompt query's attention that falls on the first tokens, its last `recent` or the marked ones. */
const recovered = (
  view: PrefillView,
  at: number,
  world: World,
  marked: Uint8Array,
  { sinks, recent }: Quota,
): number => {
  let kept = 0;
  let rows = 0;
  const queries = visitPromptRows(view, at, world, view.length, (row) => {
    rows++;
    for (let i = 0; i < row.length; i++)
      if (i < sinks || i >= row.length - recent || marked[i] === 1) kept += row[i];
  });
  if (queries > 0) return kept / rows;
  const { sums } = promptColumns(view, at, world);
  const n = view.length;
  let total = 0;
  for (let i = 0; i < sums.length; i++) {
    const token = i % n;
    total += sums[i];
    if (token < sinks || token >= n - recent || marked[token] === 1) kept += sums[i];
  }
  return total === 0 ? 1 : kept / total;
};

const inputsOf = ({ fields }: World): string => {
  const classes = 'no token classes: special = first tokens, no punctuation';
  if (fields.has('qprompt')) return `${classes}; profile from the last prompt queries that the trace records`;
  return fields.has('prefillMass')
    ? `${classes}; profile from column sums of the prompt (trace has no qprompt)`
    : `${classes}; heads cannot be profiled (trace has neither qprompt nor prefillMass)`;
};

export const policy = {
  name: 'fastgen',
  title: 'FastGen',
  family: 'eviction',
  source: 'arXiv 2310.01801; AnswerDotAI/cold-compress',
  requires: ['k', 'q'],
  prefers: ['qprompt', 'prefillMass'],
  config,
  create: (c, world): Policy => {
    const caches = cachesOf(c);
    const work = { columns: c.columns, stateBytes: SCORE_BYTES };
    const canProfile = world.fields.has('qprompt') || world.fields.has('prefillMass');
    /** The first cache that recovers enough of what the prompt's queries attended to. */
    const cacheOf = (view: PrefillView, at: number, hitters: HeavyHitters): Cache => {
      const everything: Cache = () => null;
      if (!canProfile) return everything;
      return (
        caches.find((cache) => {
          const quota = cache(view.length);
          if (quota === null) return true;
          return recovered(view, at, world, hitters.heaviest(quota), quota) >= c.recovery;
        }) ?? everything
      );
    };
    return {
      ...policyDefaults,
      learns: true,
      inputs: inputsOf(world),
      // The profile weighs every entry of the prompt's attention.
      prefillWork: [columnWork({ ...work, tokens: 1, queries: world.promptTokens / 2 }, world)],
      layer: () => {
        const heads: { readonly hitters: HeavyHitters; readonly cache: Cache }[] = [];
        const evict = (at: number, length: number): void => {
          const quota = heads[at].cache(length);
          if (quota !== null) heads[at].hitters.evict(quota);
        };
        /** Only heads that keep heavy hitters go on scoring. */
        const keepsScores = (at: number, length: number): boolean =>
          (heads[at].cache(length)?.heavy ?? 0) > 0;
        return {
          onPrefill(view) {
            view.heads.forEach((head, at) => {
              const hitters = heavyHittersOf(view, at, world, c.group, true);
              heads.push({ hitters, cache: cacheOf(view, at, hitters) });
              evict(at, view.length);
              head.cache.setMeta('lengths', 'hbm', LENGTH_BYTES);
              if (keepsScores(at, view.length))
                head.cache.setMeta('scores', 'hbm', hitters.holders.rows * SCORE_BYTES);
            });
          },
          onAppend(view) {
            view.heads.forEach(({ cache }, at) => {
              const { holders } = heads[at].hitters;
              holders.add(view.length - 1, view.length);
              evict(at, view.length);
              if (keepsScores(at, view.length)) cache.setMeta('scores', 'hbm', holders.rows * SCORE_BYTES);
            });
          },
          select(view, picks) {
            heads.forEach(({ hitters }, at) => {
              if (!keepsScores(at, view.length)) return;
              picks[at].score(columnWork({ ...work, tokens: hitters.holders.rows, queries: 1 }, world));
            });
          },
          observe(view, probabilities) {
            heads.forEach(({ hitters }, at) => {
              if (keepsScores(at, view.length))
                hitters.add(groupRows(probabilities[at], world.groupSize, view.length, c.group), view.length);
            });
          },
        };
      },
    };
  },
} satisfies PolicyPlugin<typeof config>;
