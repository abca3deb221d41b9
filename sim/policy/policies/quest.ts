/**
 * Quest: per page the channel-wise minimum and maximum of its keys bound every q·k in it; each query head takes the
 * pages with the highest bound. arXiv 2406.10774; mit-han-lab/Quest (page 16, layers 0-1 dense, at least 3 pages,
 * the last page always in). `tier: dram` keeps full pages in DRAM and the digests in HBM; pages chosen again stay
 * in their HBM slots. Kernels read such pages, as copies are named one by one: on an H100 with PCIe 5, 512 pages of
 * 8 KB come at 8 to 18 GB/s in a batched copy, 48 by a kernel.
 */
import * as z from 'zod';
import { ChannelBounds } from '../channel-bounds.ts';
import { HotSet } from '../hot-set.ts';
import {
  type HeadView,
  type Pick,
  type Policy,
  type PolicyPlugin,
  policyDefaults,
  type StepView,
  type World,
} from '../policy.ts';
import { Ranking, reduceRows } from '../ranking.ts';

const config = z.object({
  pageTokens: z.int().min(1).default(16).describe('tokens of one page'),
  budgetTokens: z.int().min(1).default(2048).describe('tokens that each query head attends to'),
  denseLayers: z.int().min(0).default(2).describe('first layers with full attention'),
  minPages: z.int().min(1).default(3).describe('pages taken at least'),
  group: z
    .enum(['per-query', 'max', 'mean'])
    .default('per-query')
    .describe('who chooses: each query head, or the group'),
  tier: z.enum(['hbm', 'dram']).default('hbm').describe('where full pages live'),
  mode: z.enum(['dma', 'dma-batch', 'uva']).default('uva').describe('how pages cross the link (tier dram)'),
  reuse: z
    .boolean()
    .default(true)
    .describe('pages chosen in the previous step stay in HBM slots (tier dram)'),
  hotPages: z
    .int()
    .min(1)
    .optional()
    .describe("HBM slots, least recently chosen pages leave first (tier dram); default: each step's choice"),
});
type Config = z.infer<typeof config>;

/** Choices per query head are kept as 32-bit sets. */
const MAX_QUERIES = 32;

interface HeadState {
  readonly bounds: ChannelBounds;
  /** Row-major [groupSize, pages]. */
  readonly scores: Float32Array;
  readonly group: Float32Array;
  readonly ranking: Ranking;
  /** Pages that some query head chose in this step: marked, then listed. */
  readonly marks: Uint8Array;
  readonly chosen: Int32Array;
  readonly hot: HotSet;
}

const choosePages = (
  state: HeadState,
  view: StepView,
  at: number,
  pick: Pick,
  world: World,
  c: Config,
): void => {
  const pages = Math.ceil(view.length / c.pageTokens);
  const budget = Math.max(c.minPages, Math.floor(c.budgetTokens / c.pageTokens));
  if (budget >= pages) return;
  const { headDim, groupSize } = world;
  const q = view.queries(at);
  pick.score({
    index: 'page-bounds',
    readBytes: { hbm: pages * 2 * world.kBytesPerToken },
    flops: 3 * headDim * pages * groupSize,
    kernels: 1,
    call: { kernel: 'bounds-score', counts: { pages } },
  });
  pick.topk(pages, budget, c.group === 'per-query' ? groupSize : 1);
  pick.none();
  const last = pages - 1;
  state.bounds.scoreInto(q, groupSize, pages, state.scores, pages);
  const perQuery = c.group === 'per-query';
  if (c.group !== 'per-query') reduceRows(state.scores, groupSize, pages, pages, c.group, state.group);
  for (let g = 0; g < (perQuery ? groupSize : 1); g++) {
    const scores = perQuery ? state.scores.subarray(g * pages, (g + 1) * pages) : state.group;
    const count = state.ranking.best(scores, 0, last, budget - 1);
    takePages(count, state, last, pick, c, perQuery ? g : undefined);
  }
};

const takePages = (
  count: number,
  state: HeadState,
  last: number,
  pick: Pick,
  c: Config,
  query?: number,
): void => {
  for (let i = 0; i < count; i++) {
    const page = state.ranking.positions[i];
    state.marks[page] = 1;
    pick.take(page * c.pageTokens, (page + 1) * c.pageTokens, query);
  }
  pick.take(last * c.pageTokens, (last + 1) * c.pageTokens, query);
};

/** Chosen full pages enter HBM slots (a copy over the link), pages that find no slot any more leave theirs. */
const keepInSlots = (state: HeadState, head: HeadView, length: number, c: Config): void => {
  const full = Math.floor(length / c.pageTokens);
  let count = 0;
  for (let page = 0; page < full; page++) if (state.marks[page] === 1) state.chosen[count++] = page;
  state.marks.fill(0);
  state.hot.turnOver(head.cache, state.chosen, count, c.hotPages ?? 0);
};

export const policy = {
  name: 'quest',
  title: 'Quest',
  family: 'selection',
  source: 'arXiv 2406.10774; mit-han-lab/Quest',
  requires: ['k', 'q'],
  config,
  atBudget: (tokens) => ({ budgetTokens: tokens, minPages: 1, denseLayers: 0 }),
  create: (given, world): Policy => {
    const isWide = given.group === 'per-query' && world.groupSize > MAX_QUERIES;
    const c: Config = isWide ? { ...given, group: 'max' } : given;
    const pages = Math.ceil(world.maxTokens / c.pageTokens);
    const offloaded = c.tier === 'dram';
    const digest = 2 * world.kBytesPerToken;
    return {
      ...policyDefaults,
      inputs: isWide ? `one choice a group: ${world.groupSize} query heads share a KV head` : 'exact',
      isDenseLayer: (layer) => layer < c.denseLayers,
      ...(offloaded
        ? {
            transfer: {
              mode: c.mode,
              rowTokens: c.pageTokens,
              joinHeads: false,
              joinKv: true,
              overlap: 'step',
            },
          }
        : {}),
      prefillWork: [
        {
          index: 'page-bounds',
          readBytes: { hbm: world.kBytesPerToken },
          writeBytes: { hbm: digest / c.pageTokens },
          flops: 2 * world.headDim,
          kernels: 1,
        },
      ],
      layer: () => {
        const states: HeadState[] = [];
        const setMeta = (head: HeadView, length: number) =>
          head.cache.setMeta('page-bounds', 'hbm', Math.ceil(length / c.pageTokens) * digest);
        return {
          onPrefill(view) {
            for (const head of view.heads) {
              const state: HeadState = {
                bounds: new ChannelBounds(world.maxTokens, world.headDim, c.pageTokens),
                scores: new Float32Array(world.groupSize * pages),
                group: new Float32Array(pages),
                ranking: new Ranking(pages),
                marks: new Uint8Array(pages),
                chosen: new Int32Array(pages),
                hot: new HotSet(world.maxTokens, c.pageTokens),
              };
              state.bounds.update(head.keys, 0, view.length);
              states.push(state);
              setMeta(head, view.length);
              if (offloaded)
                head.cache.move(0, Math.floor(view.length / c.pageTokens) * c.pageTokens, 'dram');
            }
          },
          onAppend(view) {
            view.heads.forEach((head, at) => {
              states[at].bounds.update(head.keys, view.length - 1, view.length);
              setMeta(head, view.length);
              const sealed = view.length - 1;
              if (offloaded && sealed % c.pageTokens === 0)
                head.cache.move(sealed - c.pageTokens, sealed, 'dram');
            });
          },
          select(view, picks) {
            view.heads.forEach((head, at) => {
              choosePages(states[at], view, at, picks[at], world, c);
              if (offloaded && c.reuse) keepInSlots(states[at], head, view.length - 1, c);
            });
          },
        };
      },
    };
  },
} satisfies PolicyPlugin<typeof config>;
