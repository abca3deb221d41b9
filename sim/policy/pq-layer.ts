/**
 * PQCache at work on the KV heads of one layer: sinks | retrieval zone in DRAM | recent window. The window keeps its size,
 * so each generated token pushes one out, which takes the codes of the nearest old centroids. HugoZHL/PQCache
 * vq_method/retrieval_based/pq_search.py.
 */
import { softmaxInPlace } from '../quality/exact-attention.ts';
import { TokenBlockCache } from './block-cache.ts';
import type { AppendView, HeadView, LayerPolicy, LayerView, Pick, StepView, Work, World } from './policy.ts';
import { PqIndex } from './pq-index.ts';
import { Ranking, reduceRows } from './ranking.ts';

export interface PqOptions {
  readonly sinkTokens: number;
  readonly recentTokens: number;
  readonly topK: number;
  readonly subspaces: number;
  readonly bits: number;
  readonly iterations: number;
  readonly codeBook: 'as-implemented' | 'packed' | 'resident';
  readonly reservedTokens: number;
  readonly cacheTokens: number;
  readonly blockTokens: number;
  readonly admitBlocks: number;
  readonly group: 'sum' | 'max';
}

/** Bytes of a code in the authors' tensors. */
const WIDE_CODE_BYTES = 8;
/** Scores are computed in 16 bits, in about this many element-wise passes (scale, softmax, sum over the group). */
const SCORE_BYTES = 2;
const SCORE_PASSES = 3;

/** Bytes of one KV head's codes of `tokens` tokens, as they are stored and sent. */
const codeBytes = ({ codeBook, subspaces, reservedTokens }: PqOptions, tokens: number): number =>
  codeBook === 'as-implemented' ? WIDE_CODE_BYTES * subspaces * reservedTokens : subspaces * tokens;

/** What ranking the `n` tokens of the zone takes, per KV head. */
const searchWorks = (c: PqOptions, world: World, n: number): readonly Work[] => {
  const { headDim, groupSize, kBytesPerToken } = world;
  const { subspaces } = c;
  const centroids = 2 ** c.bits;
  const bytes = codeBytes(c, n);
  const flops = groupSize * (2 * centroids * headDim + subspaces * n);
  const passes = groupSize * n * SCORE_BYTES * SCORE_PASSES;
  const upload: Work = {
    index: 'code-book',
    readBytes: { dram: bytes + centroids * kBytesPerToken },
    flops: 0,
    kernels: 2,
    where: 'h2d',
    ahead: true,
  };
  if (c.codeBook === 'as-implemented') {
    // Codes are copied once a query head over their reserved length; then the products of each are gathered and summed.
    const gathered = groupSize * subspaces * n * SCORE_BYTES;
    const indices = groupSize * subspaces * n * WIDE_CODE_BYTES;
    return [
      upload,
      {
        index: 'codes-to-heads',
        readBytes: { hbm: bytes },
        writeBytes: { hbm: groupSize * bytes },
        flops: 0,
        kernels: 1,
        call: {
          kernel: 'gather',
          counts: { rows: groupSize, distinct: 1 },
          shape: { rowBytes: bytes, centroids },
        },
      },
      {
        index: 'code-products',
        readBytes: { hbm: indices + gathered + passes },
        writeBytes: { hbm: gathered + passes },
        flops,
        kernels: 3 + SCORE_PASSES,
        call: {
          kernel: 'pq-passes',
          counts: { tokens: n },
          shape: { subspaces, centroids, reservedTokens: c.reservedTokens },
        },
      },
    ];
  }
  const fused: Work = {
    index: 'code-products',
    // Books in 32 bits; scores stay in cache from one kernel to the next.
    readBytes: { hbm: bytes + 4 * centroids * headDim },
    flops,
    kernels: 1 + SCORE_PASSES,
    call: { kernel: 'pq-shares', counts: { tokens: n }, shape: { subspaces, centroids } },
  };
  return c.codeBook === 'packed' ? [upload, fused] : [fused];
};

/** A token that leaves the window takes its codes: products with all centroids, arg min. */
const encodingWork = (c: PqOptions, { headDim, kBytesPerToken }: World): Work => ({
  index: 'codes',
  readBytes: { hbm: kBytesPerToken * (1 + 2 ** c.bits) },
  flops: 3 * headDim * 2 ** c.bits,
  kernels: 4,
  call: {
    kernel: 'pq-assign',
    counts: { tokens: 1 },
    shape: { subspaces: c.subspaces, centroids: 2 ** c.bits },
  },
});

interface HeadState {
  readonly index: PqIndex;
  /** Row-major [groupSize, tokens of the zone]. */
  readonly scores: Float32Array;
}

export class PqLayer implements LayerPolicy {
  private readonly c: PqOptions;
  private readonly world: World;
  private readonly states: HeadState[] = [];
  private readonly cached: TokenBlockCache;
  private readonly ranking: Ranking;

  constructor(c: PqOptions, world: World) {
    this.c = c;
    this.world = world;
    const blocks = Math.floor(c.cacheTokens / c.blockTokens);
    this.cached = new TokenBlockCache(world.maxTokens, c.sinkTokens, c.blockTokens, blocks);
    this.ranking = new Ranking(world.maxTokens);
  }

  onPrefill(view: LayerView): void {
    const { c, world } = this;
    // Fewer keys than centroids are not quantised, and everything stays where it is.
    if (view.length - c.sinkTokens <= 2 ** c.bits) return;
    for (const head of view.heads) {
      const index = new PqIndex(world.maxTokens, world.headDim, c.subspaces, c.bits, c.sinkTokens);
      index.train(head.keys, view.length, c.iterations);
      this.states.push({
        index,
        scores: new Float32Array(world.groupSize * (world.maxTokens - c.sinkTokens)),
      });
      const end = view.length - c.recentTokens;
      if (end > c.sinkTokens) head.cache.move(c.sinkTokens, end, 'dram');
      this.setMeta(head, view.length);
    }
  }

  onAppend(view: AppendView): void {
    const { c, world } = this;
    // The new token is attended beside the window.
    const leaving = view.length - 2 - c.recentTokens;
    if (this.states.length === 0 || leaving < c.sinkTokens) return;
    view.heads.forEach((head, at) => {
      const { index } = this.states[at];
      if (leaving >= index.to) {
        view.work(encodingWork(c, world));
        index.encode(head.keys, leaving + 1);
      }
      if (view.length > world.promptTokens + 1) head.cache.move(leaving, leaving + 1, 'dram');
      this.setMeta(head, leaving + 1);
    });
  }

  select(view: StepView, picks: readonly Pick[]): void {
    const { c, world } = this;
    const end = view.length - 1 - c.recentTokens;
    const n = end - c.sinkTokens;
    if (this.states.length === 0 || n <= 0) return;
    // Blocks that the step before asked for have come in behind its attention.
    const caches = view.heads.map(({ cache }) => cache);
    this.cached.turn(caches, c.admitBlocks, end);
    view.heads.forEach((_, at) => {
      const pick = picks[at];
      const { index, scores } = this.states[at];
      const { groupSize, headDim } = world;
      index.scoreInto(view.queries(at), groupSize, end, scores, n, 1 / Math.sqrt(headDim));
      for (let g = 0; g < groupSize; g++) softmaxInPlace(scores.subarray(g * n, (g + 1) * n), n);
      reduceRows(scores, groupSize, n, n, c.group, scores);
      const count = this.ranking.best(scores, 0, n, Math.min(c.topK, n));
      pick.none();
      pick.take(0, c.sinkTokens);
      pick.take(end, view.length);
      for (const zoneToken of this.ranking.positions.subarray(0, count)) {
        const token = c.sinkTokens + zoneToken;
        pick.take(token, token + 1);
        this.cached.ask(token);
      }
      for (const work of searchWorks(c, world, n)) pick.score(work);
      pick.topk(n, count);
    });
  }

  /** Codes in DRAM and, where they stay, in HBM; centroids in both. */
  private setMeta(head: HeadView, tokens: number): void {
    const { c, world } = this;
    const books = 2 ** c.bits * world.kBytesPerToken;
    const codes = codeBytes(c, tokens - c.sinkTokens);
    // The authors' layers hold on to the copy that they were sent last.
    head.cache.setMeta('codes', 'hbm', books + (c.codeBook === 'packed' ? 0 : codes));
    head.cache.setMeta('codes', 'dram', books + codes);
  }
}
