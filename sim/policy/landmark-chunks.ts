/**
 * ShadowKV's mechanism on the KV heads of one layer: chunks of the prompt are ranked by their landmarks; values of the
 * chosen ones cross the link and their keys are rebuilt from low-rank factors, unless the chunk still has its slot.
 * Outlier chunks, the prompt's end and generated tokens stay as they are in HBM (bytedance/ShadowKV, kv_cache.py).
 */
import { dotRows } from '../engine/simd.ts';
import { softmaxInPlace } from '../quality/exact-attention.ts';
import { HotSet } from './hot-set.ts';
import { chunkMeans, outlierChunks } from './landmarks.ts';
import type { Pick as Choice, HeadView, LayerPolicy, PrefillView, StepView, Work, World } from './policy.ts';
import { Ranking, type Reducer, reduceRows } from './ranking.ts';

/** Parameters as policies/shadowkv.ts describes them, and what follows from them. */
export interface LandmarkConfig {
  readonly chunkTokens: number;
  readonly budgetTokens: number;
  readonly localChunks: number;
  readonly chunkGroup: number;
  readonly reduce: Reducer;
  readonly hotChunks: number;
  /** Chunks that are kept raw per KV head. */
  readonly outliers: number;
  /** Numbers of a factored key, shared by all KV heads. */
  readonly rank: number;
  /** Makes the factors of the replayed heads, for the coded form of their keys. */
  readonly factor: (view: PrefillView) => void;
}

interface HeadState {
  /** Chunk of each landmark, and the landmarks: row-major [chunks.length, headDim]. */
  readonly chunks: Int32Array;
  readonly landmarks: Float32Array;
  readonly outliers: Int32Array;
  readonly hot: HotSet;
}

/** Rebuilds keys of `tokens` tokens from their factors and the KV head's directions, and turns them to their positions. */
export const rebuildingWork = (
  tokens: number,
  { rank, chunkTokens }: Pick<LandmarkConfig, 'rank' | 'chunkTokens'>,
  { headDim, kBytesPerToken }: World,
): Work => {
  const factorBytes = (rank * kBytesPerToken) / headDim;
  return {
    index: 'rebuild-keys',
    readBytes: { hbm: (tokens + headDim) * factorBytes },
    writeBytes: { hbm: tokens * kBytesPerToken },
    flops: 3 * tokens * headDim,
    matrixFlops: 2 * rank * headDim * tokens,
    kernels: 2,
    call: { kernel: 'low-rank-rebuild', counts: { tokens }, shape: { rank, chunkTokens } },
  };
};

export class LandmarkChunks implements LayerPolicy {
  private readonly c: LandmarkConfig;
  private readonly world: World;
  private readonly heads: HeadState[] = [];
  /** Tokens of the prompt that are chunks; those after it are local. */
  private chunkedTokens = 0;
  private scores = new Float32Array(0);
  private group = new Float32Array(0);
  private ranking = new Ranking(0);
  private chosen = new Int32Array(0);

  constructor(c: LandmarkConfig, world: World) {
    this.c = c;
    this.world = world;
  }

  onPrefill(view: PrefillView): void {
    const { c, world } = this;
    const spare = Math.floor(view.length / c.chunkTokens) - c.localChunks;
    const chunks = spare - (spare % c.chunkGroup);
    if (chunks <= c.outliers) return;
    this.chunkedTokens = chunks * c.chunkTokens;
    this.scores = new Float32Array(world.groupSize * chunks);
    this.group = new Float32Array(chunks);
    this.ranking = new Ranking(chunks);
    this.chosen = new Int32Array(chunks);
    c.factor(view);
    view.heads.forEach((head, at) => {
      this.heads.push(this.index(head, chunks));
      const recorded = view.promptQueries(at);
      const last = recorded?.q.subarray((recorded.windowTokens - 1) * world.groupSize * world.headDim);
      this.place(head, this.heads[at], last ? this.choose(this.heads[at], last) : 0);
      this.setMeta(head, this.heads[at]);
    });
  }

  select(view: StepView, picks: readonly Choice[]): void {
    const { c } = this;
    this.heads.forEach((state, at) => {
      const pick = picks[at];
      pick.take(this.chunkedTokens, view.length);
      const take = (chunk: number) => pick.take(chunk * c.chunkTokens, (chunk + 1) * c.chunkTokens);
      state.outliers.forEach(take);
      const count = this.choose(state, view.queries(at));
      this.chosen.subarray(0, count).forEach(take);
      const head = view.heads[at];
      const missed = state.hot.turnOver(head.cache, this.chosen, count, c.hotChunks);
      this.setMeta(head, state);
      this.declare(pick, state, count, missed);
    });
  }

  private index({ keys }: HeadView, chunks: number): HeadState {
    const { c, world } = this;
    const { headDim } = world;
    const means = chunkMeans(keys, headDim, c.chunkTokens, chunks);
    const outliers = outlierChunks(keys, means, headDim, c.chunkTokens, c.outliers);
    const isOutlier = new Set(outliers);
    const rest = this.chosen.map((_, chunk) => chunk).filter((chunk) => !isOutlier.has(chunk));
    const landmarks = new Float32Array(rest.length * headDim);
    rest.forEach((chunk, i) => {
      landmarks.set(means.subarray(chunk * headDim, (chunk + 1) * headDim), i * headDim);
    });
    return { chunks: rest, landmarks, outliers, hot: new HotSet(this.chunkedTokens, c.chunkTokens) };
  }

  /** Values go to DRAM, keys become factors; the first `count` of `chosen` stay in slots, as the prompt's last choice. */
  private place({ cache }: HeadView, { chunks, hot }: HeadState, count: number): void {
    const { chunkTokens } = this.c;
    for (let i = 0; i < count; i++) hot.adopt(this.chosen[i]);
    for (const chunk of chunks) {
      const [from, to] = [chunk * chunkTokens, (chunk + 1) * chunkTokens];
      cache.recode(from, to, 1);
      cache.move(from, to, 'dram', hot.resident[chunk] === 1);
    }
  }

  /** Fills `chosen` with the best chunks of a group of queries; their number. */
  private choose({ chunks, landmarks }: HeadState, queries: Float32Array): number {
    const { c, world, scores, group, ranking, chosen } = this;
    const { headDim, groupSize } = world;
    const n = chunks.length;
    const scale = 1 / Math.sqrt(headDim);
    const job = { rows: landmarks, rowCount: n, channels: headDim, out: scores, stride: n, scale };
    dotRows({ ...job, queries, queryCount: groupSize });
    for (let g = 0; g < groupSize; g++) softmaxInPlace(scores.subarray(g * n, (g + 1) * n), n);
    reduceRows(scores, groupSize, n, n, c.reduce, group);
    const count = ranking.best(group, 0, n, Math.floor(c.budgetTokens / c.chunkTokens));
    for (let i = 0; i < count; i++) chosen[i] = chunks[ranking.positions[i]];
    return count;
  }

  private declare(pick: Choice, { chunks }: HeadState, count: number, missed: number): void {
    const { c, world } = this;
    const { headDim, groupSize, kBytesPerToken } = world;
    const n = chunks.length;
    pick.score({
      index: 'landmarks',
      readBytes: { hbm: n * kBytesPerToken },
      flops: (2 * headDim + 4) * n * groupSize,
      kernels: 3,
      call: { kernel: 'dot-shares', counts: { count: n } },
    });
    pick.topk(n, count);
    const rebuilt = missed * c.chunkTokens;
    pick.score(rebuildingWork(rebuilt, c, world));
  }

  private setMeta({ cache }: HeadView, { chunks, hot }: HeadState): void {
    const { c, world } = this;
    const { kBytesPerToken, kvHeads, headDim, promptTokens } = world;
    const factorBytes = (c.rank * kBytesPerToken) / headDim;
    cache.setMeta('landmarks', 'hbm', chunks.length * kBytesPerToken);
    cache.setMeta('key-factors', 'hbm', (promptTokens * factorBytes) / kvHeads + headDim * factorBytes);
    cache.setMeta('rebuilt-keys', 'hbm', hot.size * c.chunkTokens * kBytesPerToken);
  }
}
