/**
 * WG-KV in one layer: ring and global pages of each KV head through a run. A token's home never changes in the ledger (all
 * is HBM); what leaves the ring unadmitted, or is evicted from the pages, is dropped. Used by policies/wg-kv.ts.
 */
import { attendedByPrompt, type HeadGate, openGate } from './admission.ts';
import type { GateSource, TokenScores } from './admission-scores.ts';
import type { GateNetwork } from './gate-network.ts';
import { GlobalPages } from './global-pages.ts';
import type { AppendView, HeadView, LayerPolicy, Pick, PrefillView, StepView, World } from './policy.ts';

export interface WgKvRules {
  readonly windowTokens: number;
  readonly threshold: number;
  readonly source: GateSource;
  readonly sinkTokens: number;
  rate(layer: number, kvHead: number): number;
  /** Scores of a head that are known already. */
  takeScores?: ((layer: number, kvHead: number) => TokenScores | undefined) | undefined;
  readonly network: GateNetwork;
  readonly deferGate: boolean;
  readonly pageTokens: number;
  readonly prefillBlockTokens: number;
  readonly sparsePrefill: boolean;
  readonly questTokens: number | undefined;
  /** Absent = nothing is evicted. */
  readonly eviction: {
    /** After the prompt and each step: whether heads evict. Asked when the next token is appended. */
    isDue(step: number): boolean;
    readonly share: number;
    readonly window: number;
    readonly kernel: number;
  } | null;
}

/** Launches a KV head of one eviction: product, scale, softmax, three reductions, top-k, mask, list, two gathers, copy. */
const EVICT_KERNELS = 12;
/** Launches a step of moving the ring's victims to their pages, all layers together. */
const MIGRATE_KERNELS = 10;

interface HeadState {
  readonly gate: HeadGate;
  readonly pages: GlobalPages;
  /** Last queries, oldest first: row-major [count, groupSize, headDim]. */
  queries: Float32Array;
}

export class WgKvLayer implements LayerPolicy {
  private readonly rules: WgKvRules;
  private readonly world: World;
  private readonly heads: HeadState[] = [];
  private readonly chosen: Int32Array;

  constructor(rules: WgKvRules, world: World) {
    this.rules = rules;
    this.world = world;
    this.chosen = new Int32Array(Math.ceil(world.maxTokens / rules.pageTokens));
  }

  onPrefill(view: PrefillView): void {
    const { rules, world } = this;
    const { windowTokens } = rules;
    view.heads.forEach((head, at) => {
      const rate = rules.rate(view.layer, head.kvHead);
      const scores = rules.takeScores?.(view.layer, head.kvHead);
      const gate = openGate(view, at, { ...rules, rate }, world, scores);
      const pages = new GlobalPages(world, rules.pageTokens, rules.questTokens !== undefined);
      const state: HeadState = { gate, pages, queries: new Float32Array(0) };
      this.heads.push(state);
      const window = rules.eviction === null ? null : view.promptQueries(at);
      if (window !== null) this.remember(state, window.q);
      for (let token = 0; token < view.length - windowTokens; token++) leaveRing(head, state, token);
      pages.seal(0);
      this.setMeta(head, state);
      if (rules.sparsePrefill)
        view.attend(at, attendedByPrompt(gate.flags, view.length, windowTokens, rules.prefillBlockTokens));
    });
  }

  onAppend(view: AppendView): void {
    const { rules, world } = this;
    const step = view.length - world.promptTokens - 1;
    const token = view.length - 1;
    let moved = 0;
    view.heads.forEach((head, at) => {
      const state = this.heads[at];
      if (rules.eviction?.isDue(step)) this.evict(view, head, state);
      state.gate.write(token);
      const leaving = token - rules.windowTokens;
      const before = state.pages.tokens;
      if (leaving >= 0) leaveRing(head, state, leaving);
      state.pages.seal(before);
      moved += (state.pages.tokens - before) / view.heads.length;
      this.setMeta(head, state);
    });
    const batch = rules.deferGate ? rules.windowTokens : 1;
    const bytes = { hbm: moved * (world.kBytesPerToken + world.vBytesPerToken) };
    view.heads.forEach(() => {
      if (rules.network.layerWeightBytes > 0 && view.length % batch === 0)
        view.work(rules.network.work(batch));
      view.work({
        index: 'ring-to-page',
        readBytes: bytes,
        writeBytes: bytes,
        flops: 0,
        kernels: MIGRATE_KERNELS / world.layers,
        call: { kernel: 'ring-to-page', counts: { tokens: moved }, shape: { window: rules.windowTokens } },
      });
    });
  }

  select(view: StepView, picks: readonly Pick[]): void {
    const { rules } = this;
    picks.forEach((pick, at) => {
      const state = this.heads[at];
      if (rules.eviction !== null) this.remember(state, view.queries(at));
      if (rules.questTokens !== undefined) this.choosePages(view, state, at, pick, rules.questTokens);
    });
  }

  private choosePages(view: StepView, { pages }: HeadState, at: number, pick: Pick, budget: number): void {
    const { rules, world, chosen } = this;
    const ring = Math.min(view.length, rules.windowTokens);
    const count = Math.ceil(Math.max(0, budget - ring) / rules.pageTokens);
    pick.score({
      index: 'page-bounds',
      readBytes: { hbm: pages.pages * 2 * world.kBytesPerToken },
      flops: 3 * world.headDim * pages.pages * world.groupSize,
      kernels: 1,
      call: { kernel: 'bounds-score', counts: { pages: pages.pages } },
    });
    pick.topk(pages.pages, Math.min(count, pages.pages));
    pick.none();
    const found = pages.bestPages(view.queries(at), count, chosen);
    for (let i = 0; i < found; i++) {
      const to = Math.min(pages.tokens, (chosen[i] + 1) * rules.pageTokens);
      for (let slot = chosen[i] * rules.pageTokens; slot < to; slot++)
        pick.take(pages.positions[slot], pages.positions[slot] + 1);
    }
    pick.take(view.length - ring, view.length);
  }

  /** Each head drops the share of its own pages that the last queries attend to least. */
  private evict(view: AppendView, { cache }: HeadView, { pages, queries }: HeadState): void {
    const { rules, world } = this;
    if (rules.eviction === null) return;
    const { share, kernel } = rules.eviction;
    const count = Math.floor(pages.tokens * share);
    const windowTokens = queries.length / (world.groupSize * world.headDim);
    if (count === 0 || windowTokens === 0) return;
    const logits = pages.tokens * world.groupSize * rules.eviction.window;
    const kept = (pages.tokens - count) * (world.kBytesPerToken + world.vBytesPerToken);
    pages.evict(queries, windowTokens, count, kernel, (token) => cache.drop(token, token + 1));
    view.work({
      index: 'evict',
      // Logits in the keys' precision and their softmax in float32, each written and read; then the kept rows move up.
      readBytes: { hbm: (pages.tokens + count) * world.kBytesPerToken + 6 * logits + kept },
      writeBytes: { hbm: 6 * logits + kept },
      flops: 5 * logits,
      matrixFlops: 2 * logits * world.headDim,
      kernels: EVICT_KERNELS * world.kvHeads,
    });
  }

  private remember(state: HeadState, queries: Float32Array): void {
    const { groupSize, headDim } = this.world;
    const most = (this.rules.eviction?.window ?? 0) * groupSize * headDim;
    const all = new Float32Array(state.queries.length + queries.length);
    all.set(state.queries);
    all.set(queries, state.queries.length);
    state.queries = all.subarray(Math.max(0, all.length - most));
  }

  private setMeta({ cache }: HeadView, { pages }: HeadState): void {
    const { rules, world } = this;
    const ringPages = Math.ceil(rules.windowTokens / rules.pageTokens);
    const rowBytes = world.kBytesPerToken + world.vBytesPerToken;
    cache.setMeta('page-table', 'hbm', 4 * (ringPages + pages.pages));
    cache.setMeta('admission-flags', 'hbm', rules.windowTokens);
    cache.setMeta('page-slack', 'hbm', (pages.pages * rules.pageTokens - pages.tokens) * rowBytes);
    if (rules.questTokens !== undefined)
      cache.setMeta('page-bounds', 'hbm', (ringPages + pages.pages) * 2 * world.kBytesPerToken);
    if (rules.deferGate)
      cache.setMeta('keys-before-rotation', 'hbm', rules.windowTokens * world.kBytesPerToken);
  }
}

/** An admitted token joins the global pages, unless another policy of a stack dropped it; one not admitted is forgotten. */
const leaveRing = ({ cache, keys }: HeadView, { gate, pages }: HeadState, token: number): void => {
  if (!cache.isLive(token)) return;
  if (gate.flags[token] === 1) pages.add(keys, token);
  else cache.drop(token, token + 1);
};
