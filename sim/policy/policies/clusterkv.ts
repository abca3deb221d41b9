/**
 * ClusterKV: prompt keys are clustered by cosine; each query head takes the clusters whose centroids it scores highest,
 * whole, until its budget is full, and truncates the last. Generated keys are clustered a window at a time. KV lies in
 * DRAM; HBM slots hold what each query head chose in the previous step.
 * arXiv 2412.03213; sjtu-zhao-lab/ClusterKV clusterkv_controller.py, recall.cu, cluster_attention.py, bench_textgen.py.
 */
import * as z from 'zod';
import { ClusterIndex, clusteringWork, listingWork, rankingWork } from '../cluster-index.ts';
import { choosersOf } from '../group-rows.ts';
import {
  type AppendView,
  type HeadView,
  type LayerPolicy,
  type LayerView,
  type Pick,
  type Policy,
  type PolicyPlugin,
  policyDefaults,
  type StepView,
  type World,
} from '../policy.ts';
import { possibleVote } from '../prompt-eviction.ts';
import { QuerySlots } from '../query-slots.ts';
import { descending, reduceRows } from '../ranking.ts';

const config = z.object({
  budgetTokens: z.int().min(1).default(1024).describe('clustered tokens that each query head attends to'),
  sinkTokens: z.int().min(0).default(16).describe('first tokens, always attended'),
  clusterTokens: z
    .int()
    .min(1)
    .default(80)
    .describe('prompt tokens a cluster on average (400 clusters at 32K)'),
  iterations: z.int().min(1).default(20).describe('rounds of k-means at most'),
  windowTokens: z
    .int()
    .min(1)
    .default(320)
    .describe('generated tokens that are attended, then clustered together'),
  windowClusters: z.int().min(1).default(8).describe('clusters of such a window'),
  denseLayers: z.int().min(0).default(2).describe('first layers with full attention'),
  group: z
    .enum(['per-query', 'mean', 'max'])
    .default('per-query')
    .describe('who chooses: each query head, or the group'),
  tier: z.enum(['hbm', 'dram']).default('dram').describe('where clustered tokens live'),
  slots: z
    .enum(['query-head', 'kv-head'])
    .default('query-head')
    .describe('whose HBM slots hold the previous choice (tier dram): G copies, or one a KV head'),
  mode: z.enum(['uva', 'dma-batch', 'cpu-gather']).default('uva').describe('how tokens cross the link'),
});
type Config = z.infer<typeof config>;

interface HeadState {
  readonly index: ClusterIndex;
  readonly slots: QuerySlots;
}

class ClusterLayer implements LayerPolicy {
  private readonly c: Config;
  private readonly world: World;
  private readonly states: HeadState[] = [];
  private readonly scores: Float32Array;
  private readonly maxClusters: number;
  /** Copies that HBM keeps of what is always attended. */
  private readonly copies: number;

  constructor(c: Config, world: World, clusters: number) {
    const windows = Math.floor((world.maxTokens - world.promptTokens) / c.windowTokens);
    this.c = c;
    this.world = world;
    this.maxClusters = clusters + windows * c.windowClusters;
    this.scores = new Float32Array(world.groupSize * this.maxClusters);
    this.copies = c.tier === 'dram' && c.slots === 'query-head' ? choosersOf(c.group, world) : 1;
  }

  onPrefill(view: LayerView): void {
    const { c, world, states } = this;
    const clusters = promptClusters(c, world);
    for (const head of clusters === 0 ? [] : view.heads) {
      const state = {
        index: new ClusterIndex(world.maxTokens, this.maxClusters, world.headDim, c.sinkTokens),
        slots: new QuerySlots(world.maxTokens, c.slots === 'kv-head'),
      };
      states.push(state);
      this.grow(head, state, view.length, clusters);
      if (c.tier === 'hbm') continue;
      // The cache starts with the first tokens after the sinks.
      const last = Math.min(view.length, c.sinkTokens + c.budgetTokens);
      state.slots.adopt(head.cache, c.sinkTokens, last, choosersOf(c.group, world));
      for (let token = 0; token < c.sinkTokens; token++) head.cache.setCopies(token, this.copies);
    }
  }

  onAppend(view: AppendView): void {
    const { c, world, states } = this;
    view.heads.forEach((head, at) => {
      const state = states[at];
      if (state === undefined) return;
      head.cache.setCopies(view.length - 1, this.copies);
      if (view.length - state.index.to < c.windowTokens) return;
      for (let token = state.index.to; token < view.length; token++) head.cache.setCopies(token, 1);
      view.work(clusteringWork(world, c.iterations, c.windowTokens, c.windowClusters));
      this.grow(head, state, view.length, c.windowClusters);
    });
  }

  select(view: StepView, picks: readonly Pick[]): void {
    const { c } = this;
    view.heads.forEach((head, at) => {
      const state = this.states[at];
      if (state === undefined || view.length <= c.sinkTokens + c.budgetTokens) return;
      const { index, slots } = state;
      this.choose(view.queries(at), index, slots, picks[at]);
      picks[at].take(0, c.sinkTokens);
      picks[at].take(index.to, view.length);
      if (c.tier === 'dram') slots.turn(head.cache, index.from, index.to);
    });
  }

  /** Whole clusters by falling score until the budget is full; the last one is cut short. */
  private choose(queries: Float32Array, index: ClusterIndex, slots: QuerySlots, pick: Pick): void {
    const { c, world, scores } = this;
    const { clusters } = index;
    const choosers = choosersOf(c.group, world);
    index.scoreInto(queries, world.groupSize, scores);
    if (c.group !== 'per-query') reduceRows(scores, world.groupSize, clusters, clusters, c.group, scores);
    pick.none();
    let taken = 0;
    for (let g = 0; g < choosers; g++) {
      const order = descending(scores.subarray(g * clusters, (g + 1) * clusters));
      let left = c.budgetTokens;
      for (let i = 0; i < clusters && left > 0; i++, taken++) {
        const tokens = index.tokensOf(order[i]);
        for (let t = 0; t < tokens.length && left > 0; t++, left--) {
          pick.take(tokens[t], tokens[t] + 1, choosers === 1 ? undefined : g);
          slots.choose(tokens[t], g);
        }
      }
    }
    this.declare(pick, clusters, choosers, taken / choosers);
  }

  private declare(pick: Pick, clusters: number, choosers: number, k: number): void {
    const { c, world } = this;
    pick.score(rankingWork(world, clusters));
    pick.topk(clusters, Math.max(1, Math.round(k)), choosers);
    pick.score(listingWork(c.budgetTokens * choosers, c.clusterTokens, c.tier === 'dram'));
  }

  /** Clusters tokens up to `end` and moves them to their tier. */
  private grow(head: HeadView, { index }: HeadState, end: number, clusters: number): void {
    const { c, world } = this;
    const from = index.to;
    const { iterations } = c;
    index.add(head, end, {
      clusters: Math.min(clusters, end - from),
      iterations,
      segments: 1,
      centred: false,
    });
    if (c.tier === 'dram') head.cache.move(from, end, 'dram');
    // Centroids; token ids by cluster and labels by token, 4 bytes each (clusterkv_controller.py).
    head.cache.setMeta('clusters', 'hbm', index.clusters * world.kBytesPerToken + 8 * (end - index.from));
  }
}

const promptClusters = (c: Config, { promptTokens }: World): number =>
  Math.ceil(Math.max(0, promptTokens - c.sinkTokens) / c.clusterTokens);

export const policy = {
  name: 'clusterkv',
  title: 'ClusterKV',
  family: 'selection',
  source: 'arXiv 2412.03213; sjtu-zhao-lab/ClusterKV',
  requires: ['k', 'q'],
  config,
  atBudget: (tokens) => {
    const sinkTokens = Math.min(16, Math.floor(tokens / 8));
    return { budgetTokens: tokens - sinkTokens, sinkTokens, denseLayers: 0 };
  },
  create: (given, world): Policy => {
    const group = possibleVote(given.group, world);
    const c: Config = { ...given, group };
    const clusters = promptClusters(c, world);
    return {
      ...policyDefaults,
      inputs: group === given.group || world.groupSize === 1 ? 'exact' : 'one choice a query group',
      isDenseLayer: (layer) => layer < c.denseLayers,
      transfer: { mode: c.mode, rowTokens: 1, joinHeads: false, joinKv: false, overlap: 'step' },
      prefillWork: clusters === 0 ? [] : [clusteringWork(world, c.iterations, 1, clusters)],
      layer: () => new ClusterLayer(c, world, clusters),
    };
  },
} satisfies PolicyPlugin<typeof config>;
