/**
 * Quest: per page the channel-wise minimum and maximum of its keys bound every q·k in it; each query head takes the
 * pages with the highest bound. arXiv 2406.10774; mit-han-lab/Quest (page 16, layers 0-1 dense, at least 3 pages,
 * the last page always in). `tier: dram` keeps full pages in DRAM and the digests in HBM; pages chosen again stay
 * in their HBM slots.
 */
import * as z from 'zod';
import { topKPositions } from '../../quality/top-k.ts';
import { ChannelBounds } from '../channel-bounds.ts';
import {
  type HeadView,
  type Pick,
  type Policy,
  type PolicyPlugin,
  policyDefaults,
  type StepView,
  type World,
} from '../policy.ts';

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
  mode: z
    .enum(['dma', 'dma-batch', 'uva'])
    .default('dma-batch')
    .describe('how pages cross the link (tier dram)'),
  reuse: z
    .boolean()
    .default(true)
    .describe('pages chosen in the previous step stay in HBM slots (tier dram)'),
});
type Config = z.infer<typeof config>;

/** Choices per query head are kept as 32-bit sets. */
const MAX_QUERIES = 32;

interface HeadState {
  readonly bounds: ChannelBounds;
  /** Row-major [groupSize, pages]. */
  readonly scores: Float32Array;
  readonly group: Float32Array;
  readonly ranks: Float32Array;
  readonly chosen: Int32Array;
  /** Page → in an HBM slot (tier dram). */
  readonly slots: Uint8Array;
}

/** Shifts scores to be non-negative (order kept) and picks the best k of the first n pages. */
const bestPages = (scores: Float32Array, n: number, k: number, state: HeadState): number => {
  const { ranks } = state;
  let least = Infinity;
  for (let page = 0; page < n; page++) if (scores[page] < least) least = scores[page];
  for (let page = 0; page < n; page++) ranks[page] = scores[page] - least;
  return topKPositions(ranks, n, k, state.chosen);
};

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
  const digestBytes = pages * 2 * world.kBytesPerToken;
  pick.score({
    index: 'page-bounds',
    readBytes: { hbm: digestBytes },
    flops: 3 * headDim * pages * groupSize,
    kernels: 1,
  });
  pick.topk(pages, budget, c.group === 'per-query' ? groupSize : 1);
  pick.none();
  const last = pages - 1;
  state.bounds.scoreInto(q, groupSize, pages, state.scores, pages);
  for (let g = 0; g < groupSize; g++) {
    const scores = state.scores.subarray(g * pages, (g + 1) * pages);
    if (c.group === 'per-query') {
      takePages(bestPages(scores, last, budget - 1, state), state, last, pick, c, g);
      continue;
    }
    for (let page = 0; page < pages; page++) {
      const s = scores[page];
      state.group[page] =
        g === 0 ? s : c.group === 'max' ? Math.max(state.group[page], s) : state.group[page] + s;
    }
  }
  if (c.group !== 'per-query')
    takePages(bestPages(state.group, last, budget - 1, state), state, last, pick, c);
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
    const page = state.chosen[i];
    state.slots[page] |= 2;
    pick.take(page * c.pageTokens, (page + 1) * c.pageTokens, query);
  }
  pick.take(last * c.pageTokens, (last + 1) * c.pageTokens, query);
};

/** Chosen pages enter HBM slots (a copy over the link), pages no longer chosen leave theirs. */
const keepInSlots = (state: HeadState, head: HeadView, length: number, c: Config): void => {
  const full = Math.floor(length / c.pageTokens);
  for (let page = 0; page < full; page++) {
    const from = page * c.pageTokens;
    if (state.slots[page] === 2 || state.slots[page] === 3)
      head.cache.move(from, from + c.pageTokens, 'hbm', true);
    else if (state.slots[page] === 1) head.cache.move(from, from + c.pageTokens, 'dram');
    state.slots[page] >>= 1;
  }
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
      transfer: { mode: c.mode, rowTokens: c.pageTokens, joinHeads: false, joinKv: true, overlap: 'step' },
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
                ranks: new Float32Array(pages),
                chosen: new Int32Array(pages),
                slots: new Uint8Array(pages),
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
