/**
 * RetroInfer at work on the KV heads of one layer: its index grows by segments, and each choice falls into clusters that
 * are attended exactly, clusters that are estimated, and the rest. microsoft/RetrievalAttention retroinfer_cache.py.
 */
import { softmaxInPlace } from '../quality/exact-attention.ts';
import type { EstimatedRows } from '../quality/selection.ts';
import { ClusterCache } from './cluster-cache.ts';
import { ClusterIndex, clusteringWork, rankingWork } from './cluster-index.ts';
import type { AppendView, HeadView, LayerPolicy, LayerView, Pick, StepView, World } from './policy.ts';
import { Ranking, reduceRows } from './ranking.ts';
import { estimationWork, retrievalWorks, type WaveOptions, type ZonePlan, type Zones } from './wave-zones.ts';

interface HeadState {
  readonly index: ClusterIndex;
  readonly cached: ClusterCache;
  /** Where each token lies in DRAM, in pages of clusters, and the first slot that is free there. */
  readonly farSlots: Int32Array;
  freeSlot: number;
  /** Estimated clusters of the step at hand. */
  readonly keys: Float32Array;
  readonly values: Float32Array;
  readonly sizes: Float32Array;
}

export class WaveLayer implements LayerPolicy {
  private readonly c: WaveOptions;
  private readonly world: World;
  private readonly plan: ZonePlan;
  private readonly states: HeadState[] = [];
  private readonly scores: Float32Array;
  private readonly near: Ranking;
  private readonly nearest: Ranking;

  constructor(c: WaveOptions, world: World, plan: ZonePlan) {
    this.c = c;
    this.world = world;
    this.plan = plan;
    const { clusters } = plan.last;
    this.scores = new Float32Array(world.groupSize * clusters);
    this.near = new Ranking(clusters);
    this.nearest = new Ranking(clusters);
  }

  onPrefill(view: LayerView): void {
    const { c, world, plan } = this;
    const { clusters, estimated } = plan.last;
    for (const head of view.heads) {
      const state: HeadState = {
        index: new ClusterIndex(world.maxTokens, clusters, world.headDim, c.sinkTokens),
        cached: new ClusterCache(plan.cachedClusters, clusters),
        farSlots: new Int32Array(world.maxTokens),
        freeSlot: 0,
        keys: new Float32Array(estimated * world.headDim),
        values: new Float32Array(estimated * world.headDim),
        sizes: new Float32Array(estimated),
      };
      this.states.push(state);
      if (plan.at(0).clusters > 0) this.grow(head, state, view.length - c.localTokens, plan.at(0).clusters);
    }
  }

  onAppend(view: AppendView): void {
    const { c, world, plan } = this;
    view.heads.forEach((head, at) => {
      const state = this.states[at];
      if (view.length - state.index.to < c.localTokens + c.updateTokens) return;
      this.grow(head, state, state.index.to + c.updateTokens, plan.updateClusters);
      view.work(clusteringWork(world, c.iterations, c.updateTokens, plan.updateClusters));
    });
  }

  select(view: StepView, picks: readonly Pick[]): void {
    const { c, world, plan, near } = this;
    view.heads.forEach((head, at) => {
      const { index } = this.states[at];
      const { clusters } = index;
      if (clusters === 0) return;
      const pick = picks[at];
      const zones = plan.at((clusters - plan.at(0).clusters) / plan.updateClusters);
      const chosen = this.rank(view.queries(at), index, zones);
      pick.none();
      pick.take(0, c.sinkTokens);
      pick.take(index.to, view.length);
      for (const cluster of chosen) for (const token of index.tokensOf(cluster)) pick.take(token, token + 1);
      pick.score(rankingWork(world, clusters));
      pick.topk(clusters, zones.retrieved + zones.estimated);
      if (zones.estimated > 0) {
        pick.score(estimationWork(world, zones));
        const estimated = near.positions.subarray(0, zones.retrieved + zones.estimated);
        pick.estimate(this.estimatesOf(this.states[at], estimated, new Set(chosen), head.values !== null));
      }
      if (c.tier === 'dram') this.retrieve(head, this.states[at], view.length, chosen, zones, pick);
    });
  }

  /** Clusters tokens up to `end`, and moves them to their tier. */
  private grow(head: HeadView, state: HeadState, end: number, clusters: number): void {
    const { c, world, plan } = this;
    const { index } = state;
    const [from, before] = [index.to, index.clusters];
    const segments = index.clusters === 0 && plan.at(0).clusters > 0 ? plan.segments : 1;
    index.add(head, end, { clusters, iterations: c.iterations, segments, centred: true });
    if (c.tier === 'dram') {
      head.cache.move(from, end, 'dram');
      state.freeSlot = index.layOut(state.farSlots, before, state.freeSlot, c.pageTokens);
      head.cache.farSlots = state.farSlots;
    }
    // Centroid, sum of values, size in 16 bits and a flag (retroinfer_cache.py).
    const clusterBytes = world.kBytesPerToken + world.vBytesPerToken + 3;
    head.cache.setMeta('clusters', 'hbm', index.clusters * clusterBytes);
  }

  /**
   * Ranks clusters by their share of each query's softmax over the centroids, summed over the group. Returns those
   * attended exactly; `near` then holds these and the estimated ones.
   */
  private rank(queries: Float32Array, index: ClusterIndex, zones: Zones): Int32Array {
    const { world, scores, near, nearest } = this;
    const { groupSize, headDim } = world;
    const { clusters, sizes } = index;
    index.scoreInto(queries, groupSize, scores, 1 / Math.sqrt(headDim));
    for (let g = 0; g < groupSize; g++)
      softmaxInPlace(scores.subarray(g * clusters, (g + 1) * clusters), clusters);
    reduceRows(scores, groupSize, clusters, clusters, 'sum', scores);
    for (let k = 0; k < clusters; k++) if (sizes[k] === 0) scores[k] = -1;
    near.best(scores, 0, clusters, zones.retrieved + zones.estimated);
    return nearest.positions.subarray(0, nearest.best(scores, 0, clusters, zones.retrieved));
  }

  /** Centroids, mean values and sizes of the listed clusters that are not attended exactly. */
  private estimatesOf(
    { index, keys, values, sizes }: HeadState,
    listed: Int32Array,
    exact: ReadonlySet<number>,
    hasValues: boolean,
  ): EstimatedRows {
    const d = this.world.headDim;
    let count = 0;
    for (const cluster of listed) {
      if (exact.has(cluster)) continue;
      keys.set(index.keys.subarray(cluster * d, (cluster + 1) * d), count * d);
      if (hasValues) values.set(index.values.subarray(cluster * d, (cluster + 1) * d), count * d);
      sizes[count++] = index.sizes[cluster];
    }
    return { count, keys, values: hasValues ? values : null, sizes };
  }

  /** Brings the chosen clusters into the cache and declares what that takes. */
  private retrieve(
    head: HeadView,
    { index, cached }: HeadState,
    length: number,
    chosen: Int32Array,
    zones: Zones,
    pick: Pick,
  ): void {
    const { c, world } = this;
    let [tokens, pages] = [0, 0];
    for (const cluster of chosen) {
      tokens += index.sizes[cluster];
      pages += Math.ceil(index.sizes[cluster] / c.pageTokens);
    }
    const hits = cached.access(head.cache, index, chosen);
    const steady = c.sinkTokens + length - index.to;
    const found = { steady, hits, misses: tokens - hits, pages };
    for (const work of retrievalWorks(world, zones, found)) pick.score(work);
  }
}
