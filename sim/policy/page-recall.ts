/**
 * ArkVale's mechanism on the KV heads of one layer: every full page has a digest in HBM and a copy in DRAM; some pages
 * have a slot in HBM. A choice ranks all pages by their digests and recalls the best absent ones into the slots of the
 * lowest-ranked present ones (pku-liang/ArkVale, infer_state.py, kv_cache.py and select.cu).
 */
import { ChannelBounds } from './channel-bounds.ts';
import { HotSet } from './hot-set.ts';
import type { AppendView, LayerPolicy, LayerView, Pick, PrefillView, StepView, World } from './policy.ts';
import { type GuessConfig, QueryGuess } from './query-guess.ts';
import { Ranking, reduceRows } from './ranking.ts';

/** Parameters as policies/arkvale.ts describes them. */
export interface RecallConfig extends GuessConfig {
  readonly pageTokens: number;
  readonly budgetPages: number;
  readonly topkPages: number;
  readonly sinkPages: number;
  readonly windowPages: number;
  readonly digest: 'cuboid-mean' | 'cuboid';
  readonly reduce: 'mean' | 'max';
  readonly selectPer: 'layer' | 'head';
  readonly attend: 'resident' | 'top';
  readonly prefetchLayers: number;
}

export class PageRecall implements LayerPolicy {
  private readonly c: RecallConfig;
  private readonly world: World;
  private readonly bounds: ChannelBounds[] = [];
  private readonly hot: HotSet[] = [];
  private readonly guess: QueryGuess;
  /** Per query head of one KV head, row-major [groupSize, pages]; then reduced, per KV head and over the layer. */
  private readonly queryScores: Float32Array;
  private readonly headScores: Float32Array[] = [];
  private readonly ranking: Ranking;
  private readonly chosen: Int32Array;

  constructor(c: RecallConfig, world: World) {
    const pages = Math.ceil(world.maxTokens / c.pageTokens);
    this.c = c;
    this.world = world;
    this.guess = new QueryGuess(c, c.prefetchLayers, world);
    this.queryScores = new Float32Array(world.groupSize * pages);
    this.ranking = new Ranking(pages);
    this.chosen = new Int32Array(pages);
  }

  onPrefill(view: PrefillView): void {
    const { c, world } = this;
    const pages = this.pagesOf(view);
    for (const { keys, cache } of view.heads) {
      const bounds = new ChannelBounds(world.maxTokens, world.headDim, c.pageTokens);
      const hot = new HotSet(world.maxTokens, c.pageTokens);
      this.bounds.push(bounds);
      this.hot.push(hot);
      this.headScores.push(new Float32Array(this.chosen.length));
      bounds.update(keys, 0, (pages - 1) * c.pageTokens);
      if (c.digest === 'cuboid-mean') for (let page = 0; page < pages - 1; page++) bounds.shrink(keys, page);
      cache.move(0, (pages - 1) * c.pageTokens, 'dram', true);
      for (let page = 0; page < pages; page++) hot.adopt(page);
    }
    this.setMeta(view);
    if (pages > c.budgetPages) this.evictPrompt(view, pages);
  }

  /** The last prompt query says which pages keep a slot; without it, the most recent ones do. */
  private evictPrompt(view: PrefillView, pages: number): void {
    const { groupSize, headDim } = this.world;
    const { budgetPages, sinkPages, windowPages } = this.c;
    this.score(view, pages, (at) => {
      const recorded = view.promptQueries(at);
      return recorded?.q.subarray((recorded.windowTokens - 1) * groupSize * headDim) ?? null;
    });
    view.heads.forEach(({ cache }, at) => {
      const count = this.best(at, pages, budgetPages - sinkPages - windowPages);
      this.hot[at].turnOver(cache, this.chosen, count, budgetPages);
    });
  }

  onAppend(view: AppendView): void {
    const { c } = this;
    const page = Math.floor((view.length - 1) / c.pageTokens);
    if (page * c.pageTokens !== view.length - 1) return;
    const sealed = (page - 1) * c.pageTokens;
    view.heads.forEach(({ keys, cache }, at) => {
      this.bounds[at].update(keys, sealed, sealed + c.pageTokens);
      if (c.digest === 'cuboid-mean') this.bounds[at].shrink(keys, page - 1);
      cache.move(sealed, sealed + c.pageTokens, 'dram', true);
      // The new page takes the slot of the one that leaves the window; it may be recalled at once.
      if (this.hot[at].size >= c.budgetPages) this.hot[at].release(cache, page - c.windowPages);
      this.hot[at].adopt(page);
    });
    this.setMeta(view);
  }

  select(view: StepView, picks: readonly Pick[]): void {
    const { c } = this;
    const pages = this.pagesOf(view);
    if (pages <= c.budgetPages) return;
    const k = c.topkPages - c.sinkPages - (c.windowPages - 1);
    this.score(view, pages, (at) => (c.prefetchLayers > 0 ? this.guess.of(view, at) : view.queries(at)));
    this.declare(picks, pages, k);
    view.heads.forEach(({ cache }, at) => {
      const count = this.best(at, pages, k);
      this.hot[at].turnOver(cache, this.chosen, count, c.budgetPages, this.headScores[at]);
      picks[at].none();
      const take = (page: number) => picks[at].take(page * c.pageTokens, (page + 1) * c.pageTokens);
      if (c.attend === 'top') this.chosen.subarray(0, count).forEach(take);
      else for (let page = 0; page < pages; page++) if (this.hot[at].resident[page] === 1) take(page);
    });
  }

  private pagesOf({ length }: { readonly length: number }): number {
    return Math.ceil(length / this.c.pageTokens);
  }

  /** Scores of all full pages; with one choice a layer, every head gets the layer's. */
  private score(view: LayerView, pages: number, queries: (at: number) => Float32Array | null): void {
    const { c, world, queryScores, headScores } = this;
    view.heads.forEach((_, at) => {
      const q = queries(at);
      if (q === null) for (let page = 0; page < pages; page++) headScores[at][page] = page;
      else {
        this.bounds[at].scoreInto(q, world.groupSize, pages - 1, queryScores, pages);
        reduceRows(queryScores, world.groupSize, pages, pages - 1, c.reduce, headScores[at]);
      }
    });
    if (c.selectPer === 'head') return;
    const [first, ...others] = headScores;
    const factor = c.reduce === 'mean' ? 1 / headScores.length : 1;
    for (let page = 0; page < pages - 1; page++) {
      for (const { [page]: s } of others)
        first[page] = c.reduce === 'max' ? Math.max(first[page], s) : first[page] + s;
      first[page] *= factor;
    }
    for (const other of others) other.set(first);
  }

  /** Lists sink pages, the best k between, and window pages in `chosen`; their number. */
  private best(at: number, pages: number, k: number): number {
    const { sinkPages, windowPages } = this.c;
    let count = 0;
    for (let page = 0; page < sinkPages; page++) this.chosen[count++] = page;
    const found = this.ranking.best(this.headScores[at], sinkPages, pages - windowPages, k);
    this.chosen.set(this.ranking.positions.subarray(0, found), count);
    count += found;
    for (let page = pages - windowPages; page < pages; page++) this.chosen[count++] = page;
    return count;
  }

  private declare(picks: readonly Pick[], pages: number, k: number): void {
    const { c, world } = this;
    const { headDim, groupSize, kBytesPerToken, kvHeads } = world;
    const work = {
      readBytes: { hbm: (pages - 1) * 2 * kBytesPerToken },
      flops: 3 * headDim * (pages - 1) * groupSize,
    };
    for (const pick of picks) {
      pick.score({
        index: 'page-digests',
        ...work,
        kernels: 2,
        call: { kernel: 'bounds-score', counts: { pages: pages - 1 } },
      });
      pick.topk(pages - c.sinkPages - c.windowPages, k, c.selectPer === 'layer' ? 1 / kvHeads : 1);
    }
  }

  private setMeta(view: LayerView): void {
    const sizeBytes = (this.pagesOf(view) - 1) * 2 * this.world.kBytesPerToken;
    for (const { cache } of view.heads) cache.setMeta('page-digests', 'hbm', sizeBytes);
  }
}
