/**
 * ParisKV: GPU collision counting plus 4-bit reranking finds the top K tokens of each KV head; their raw K and V rows
 * are read from pinned DRAM by zero-copy loads. Sink, local window and update buffer stay in HBM.
 * arXiv 2602.07721; amy-77/ParisKV. Fetch is not overlapped with compute, as in the authors' code.
 */
import * as z from 'zod';
import { ParisSearch } from '../paris-search.ts';
import { ParisIndex } from '../pariskv-index.ts';
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
  type Work,
  type World,
} from '../policy.ts';

const share = z.number().positive().max(1).optional();

const config = z.object({
  topK: z.int().min(1).default(100).describe('tokens retrieved per KV head and step'),
  sinkTokens: z.int().min(0).default(4).describe('first tokens, always in HBM'),
  localTokens: z.int().min(1).default(256).describe('recent tokens, always in HBM'),
  updateTokens: z.int().min(1).default(512).describe('the window slides, and encodes, by this many tokens'),
  minTokens: z.int().min(0).default(2000).describe('full attention below max(this, sink + local + 2 topK)'),
  rho: share.describe('share of keys that collide; default by zone length (.5 .3 .25 .2)'),
  beta: share.describe('share of keys reranked; default by zone length (.5 .25 .2 .1)'),
  coverage: share.describe(
    'adaptive K: fewest winners that cover this share of softmax·‖v‖, at most topK (.85 to .90, topK 800 or 2048)',
  ),
  leastK: z.int().min(0).default(50).describe('with coverage: tokens retrieved at least'),
  offload: z.boolean().default(true).describe('keep the retrieval zone in pinned DRAM (else in HBM)'),
  mode: z.enum(['uva', 'cpu-gather', 'dma-batch']).default('uva').describe('how winners cross the link'),
  counts: z
    .enum(['words', 'halves'])
    .default('words')
    .describe('collision counts in 32 bits, which top-k reads three times, or in 16, as the kernels here'),
  writeBack: z.boolean().default(true).describe('the rerank kernel writes decoded candidates to HBM, unread'),
});
type Config = z.infer<typeof config>;

/** Encoding of `tokens` keys: rotation, sign and level of each channel, one weight a subspace. */
const encodingWork = (world: World, tokens: number): Work => {
  const bytes = ParisIndex.bytesPerKey(world.headDim);
  return {
    index: 'encode',
    readBytes: { hbm: tokens * world.kBytesPerToken },
    writeBytes: { hbm: tokens * (bytes.ids + bytes.rerank) },
    flops: tokens * 12 * bytes.ids * 8,
    kernels: 3,
    call: { kernel: 'paris-encode', counts: { tokens }, shape: { dim: 8 * bytes.ids } },
  };
};

class ParisLayer implements LayerPolicy {
  private readonly c: Config;
  private readonly world: World;
  private readonly searches: ParisSearch[] = [];

  constructor(c: Config, world: World) {
    this.c = c;
    this.world = world;
  }

  onPrefill(view: LayerView): void {
    for (const head of view.heads) {
      const search = new ParisSearch(this.c, this.world);
      this.searches.push(search);
      this.slide(head, search, view.length - this.c.localTokens);
    }
  }

  /** Every updateTokens steps the zone grows by as many tokens at once: a burst of encoding and of copies out. */
  onAppend(view: AppendView): void {
    const { c, world } = this;
    view.heads.forEach((head, at) => {
      const { index } = this.searches[at];
      if (view.length - index.to < c.localTokens + c.updateTokens) return;
      this.slide(head, this.searches[at], Math.max(index.to, c.sinkTokens) + c.updateTokens);
      view.work(encodingWork(world, c.updateTokens));
      if (!c.offload) return;
      // Rows go out through a buffer, and the local window moves up to the sinks.
      const bytes = (c.updateTokens + c.localTokens) * (world.kBytesPerToken + world.vBytesPerToken);
      const moved = { readBytes: { hbm: bytes }, writeBytes: { hbm: bytes } };
      view.work({ index: 'slide', ...moved, flops: 0, kernels: 4 });
    });
  }

  select(view: StepView, picks: readonly Pick[]): void {
    const { c } = this;
    if (view.length < Math.max(c.minTokens, c.sinkTokens + c.localTokens + 2 * c.topK)) return;
    view.heads.forEach((head, at) => {
      const search = this.searches[at];
      if (search.index.to > search.index.from) search.choose(view.queries(at), head, view.length, picks[at]);
    });
  }

  /** Encodes what leaves the local window, and moves its raw rows to DRAM. */
  private slide(head: HeadView, { index }: ParisSearch, end: number): void {
    const { c, world } = this;
    const from = index.to;
    if (end <= from) return;
    index.encode(head.keys, end);
    if (c.offload) head.cache.move(from, end, 'dram');
    const bytes = ParisIndex.bytesPerKey(world.headDim);
    const normBytes = c.coverage === undefined ? 0 : 2;
    const zoneBytes = (end - c.sinkTokens) * (bytes.ids + bytes.rerank + normBytes);
    head.cache.setMeta('index', 'hbm', zoneBytes + bytes.ids * 256 * 4);
  }
}

export const policy = {
  name: 'pariskv',
  title: 'ParisKV',
  family: 'tiering',
  source: 'arXiv 2602.07721; amy-77/ParisKV',
  requires: ['k', 'q'],
  config,
  atBudget: (tokens) => {
    // Half is retrieved, half is the local window with its sinks; the update buffer holds generated tokens.
    const half = Math.floor(tokens / 2);
    return {
      topK: half,
      sinkTokens: 4,
      localTokens: half - 4,
      updateTokens: Math.max(16, Math.floor(tokens / 8)),
      minTokens: 0,
    };
  },
  create: (c, world): Policy => ({
    ...policyDefaults,
    inputs: c.coverage !== undefined && !world.fields.has('v') ? 'adaptive K without value norms' : 'exact',
    transfer: { mode: c.mode, rowTokens: 1, joinHeads: false, joinKv: false, overlap: 'step' },
    // Winners of one layer; and an update's rows of every layer on their way out.
    stagingBytes:
      (c.topK + (c.offload ? world.layers * c.updateTokens : 0)) *
      world.kvHeads *
      (world.kBytesPerToken + world.vBytesPerToken),
    waitsForSpills: c.offload,
    prefillWork: [encodingWork(world, 1)],
    layer: () => new ParisLayer(c, world),
  }),
} satisfies PolicyPlugin<typeof config>;
