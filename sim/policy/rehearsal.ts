/**
 * InfiniGen's mechanism on the KV heads of one layer: logits of a guessed query over a few columns of all keys; tokens
 * within alpha of a row's largest are counted, and the mean count of the layer's heads is how many each of them fetches
 * (snu-comparch/InfiniGen, kv_selection_controller.py).
 */
import { dotRows, largestOf } from '../engine/simd.ts';
import type { HeadCache } from '../memory/head-cache.ts';
import { choosersOf } from './group-rows.ts';
import { HotSet } from './hot-set.ts';
import type { AppendView, HeadView, LayerPolicy, Pick, PrefillView, StepView, World } from './policy.ts';
import type { GroupVote } from './prompt-eviction.ts';
import { type GuessConfig, QueryGuess } from './query-guess.ts';
import { Ranking, reduceRows } from './ranking.ts';
import { rehearsalWork } from './rehearsal-work.ts';
import { type Columns, columnSample, largestColumns, withinColumns } from './skewed-columns.ts';

/** Parameters as policies/infinigen.ts describes them, and what follows from them. */
export interface RehearsalConfig extends GuessConfig {
  readonly skew: boolean;
  readonly alpha: number;
  readonly group: GroupVote;
  readonly leadLayers: number;
  readonly hotTokens: number;
  readonly poolTokens: number | null;
  readonly victim: 'counter' | 'lru' | 'fifo';
  /** Columns of a head that are rehearsed. */
  readonly columns: number;
  /** Bytes of one layer's partial query weights. */
  readonly weightBytes: number;
  /** Tokens that are fetched at most, of n. */
  readonly capAt: (n: number) => number;
}

interface HeadState {
  readonly columns: Columns;
  /** Rehearsed logits, row-major [groupSize, maxTokens]; the first rows become the choosers'. */
  readonly logits: Float32Array;
  readonly hot: HotSet;
  readonly marks: Uint8Array;
  /** Per token, how often it was fetched, or in which step last; what the pool's victim is chosen by. */
  readonly worth: Uint32Array;
}

/** Live entries of a row that lie less than alpha below its largest. */
const countNear = (row: Float32Array, n: number, alpha: number, place: Uint8Array): number => {
  const least = largestOf(row, n) - alpha;
  let count = 0;
  for (let i = 0; i < n; i++) if (row[i] > least && place[i] !== 0) count++;
  return count;
};

/** The token of the older half of 0 .. n-1 that is worth least, the oldest of equals; else the oldest that is left. */
const leastWorth = (cache: HeadCache, worth: Uint32Array, n: number): number => {
  let oldest = 0;
  while (!cache.isLive(oldest)) oldest++;
  let victim = oldest;
  for (let token = oldest; token < n >> 1; token++)
    if (cache.isLive(token) && worth[token] < worth[victim]) victim = token;
  return victim;
};

/** Puts entries of tokens that were dropped below all others. */
const sink = (row: Float32Array, n: number, place: Uint8Array): void => {
  let least = Infinity;
  for (let i = 0; i < n; i++) if (place[i] !== 0 && row[i] < least) least = row[i];
  for (let i = 0; i < n; i++) if (place[i] === 0) row[i] = least - 1;
};

export class Rehearsal implements LayerPolicy {
  private readonly c: RehearsalConfig;
  private readonly world: World;
  private readonly choosers: number;
  private readonly partialBytes: number;
  private readonly states: HeadState[] = [];
  private readonly guess: QueryGuess;
  private readonly ranking: Ranking;
  private readonly chosen: Int32Array;

  constructor(c: RehearsalConfig, world: World) {
    this.c = c;
    this.world = world;
    this.choosers = choosersOf(c.group, world);
    this.partialBytes = (c.columns * world.kBytesPerToken) / world.headDim;
    this.guess = new QueryGuess(c, c.leadLayers, world);
    this.ranking = new Ranking(world.maxTokens);
    this.chosen = new Int32Array(world.maxTokens);
  }

  onPrefill(view: PrefillView): void {
    const { c, world } = this;
    view.heads.forEach(({ keys, cache }, at) => {
      const sample = columnSample(view.promptQueries(at), keys, world.headDim, view.length);
      this.states.push({
        columns: largestColumns(sample, world.headDim, c.columns, c.skew),
        logits: new Float32Array(world.groupSize * world.maxTokens),
        hot: new HotSet(world.maxTokens, 1),
        marks: new Uint8Array(world.maxTokens),
        worth: new Uint32Array(world.maxTokens),
      });
      // Nothing was fetched yet: the oldest of a prompt that the pool cannot hold go.
      const surplus = Math.max(0, view.length - (c.poolTokens ?? view.length));
      cache.drop(0, surplus);
      cache.move(surplus, view.length, 'dram');
      this.setMeta(cache);
    });
  }

  onAppend(view: AppendView): void {
    const last = view.length - 1;
    view.heads.forEach(({ cache }, at) => {
      // The step's own token is attended from HBM; it leaves when the next one arrives.
      cache.move(last - 1, last, 'dram');
      if (cache.liveTokens - 1 > (this.c.poolTokens ?? last)) {
        const victim = leastWorth(cache, this.states[at].worth, last);
        cache.drop(victim, victim + 1);
      }
      this.setMeta(cache);
    });
  }

  select(view: StepView, picks: readonly Pick[]): void {
    const { c, choosers, states } = this;
    const n = view.length - 1;
    let near = 0;
    view.heads.forEach((head, at) => {
      this.rehearse(this.guess.of(view, at), head, n, states[at]);
      for (let r = 0; r < choosers; r++)
        near += countNear(this.rowOf(states[at], r), n, c.alpha, head.cache.place);
    });
    // One number for all heads of the layer: their mean.
    const k = Math.max(1, Math.min(c.capAt(n), Math.floor(near / (states.length * choosers))));
    picks.forEach((pick, at) => {
      this.declare(pick, view.heads[at].cache.liveTokens - 1, k);
      pick.take(n, view.length);
      for (let r = 0; r < choosers; r++) this.take(pick, states[at], n, k, r);
      this.remember(states[at], view, n);
      if (c.hotTokens > 0) this.keepHot(states[at], view.heads[at], n);
      else states[at].marks.fill(0);
    });
  }

  private rowOf({ logits }: HeadState, chooser: number): Float32Array {
    const { maxTokens } = this.world;
    return logits.subarray(chooser * maxTokens, (chooser + 1) * maxTokens);
  }

  private rehearse(
    queries: Float32Array,
    { keys, cache }: HeadView,
    n: number,
    { columns, logits }: HeadState,
  ): void {
    const { headDim, groupSize, maxTokens } = this.world;
    dotRows({
      queries: withinColumns(queries, headDim, columns),
      queryCount: groupSize,
      rows: keys,
      rowCount: n,
      channels: headDim,
      out: logits,
      stride: maxTokens,
      scale: 1 / Math.sqrt(headDim),
    });
    const { group } = this.c;
    if (group !== 'per-query') reduceRows(logits, groupSize, maxTokens, n, group, logits);
    if (cache.liveTokens <= n)
      for (let r = 0; r < this.choosers; r++) sink(logits.subarray(r * maxTokens), n, cache.place);
  }

  private take(pick: Pick, state: HeadState, n: number, k: number, chooser: number): void {
    const { positions } = this.ranking;
    const count = this.ranking.best(this.rowOf(state, chooser), 0, n, k);
    for (let i = 0; i < count; i++) {
      state.marks[positions[i]] = 1;
      pick.take(positions[i], positions[i] + 1, this.choosers > 1 ? chooser : undefined);
    }
  }

  private remember({ marks, worth }: HeadState, { step }: StepView, n: number): void {
    const { victim } = this.c;
    if (victim === 'fifo') return;
    for (let token = 0; token < n; token++)
      if (marks[token] === 1) worth[token] = victim === 'lru' ? step + 1 : worth[token] + 1;
  }

  /** What any query head chose enters slots; the rest of them keep what was chosen last. */
  private keepHot({ marks, hot }: HeadState, { cache }: HeadView, n: number): void {
    let count = 0;
    for (let token = 0; token < n; token++) if (marks[token] === 1) this.chosen[count++] = token;
    marks.fill(0);
    hot.turnOver(cache, this.chosen, count, this.c.hotTokens);
  }

  private setMeta(cache: HeadCache): void {
    cache.setMeta('partial-keys', 'hbm', cache.liveTokens * this.partialBytes);
  }

  private declare(pick: Pick, n: number, k: number): void {
    const { columns, alpha, weightBytes } = this.c;
    pick.score(rehearsalWork({ tokens: n, columns, alpha, weightBytes }, this.world));
    pick.topk(n, k, this.choosers);
  }
}
