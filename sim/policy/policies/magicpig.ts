/**
 * MagicPIG: attention by sampling. Signs of random projections hash the prompt's keys, less their mean, into tables in
 * DRAM; a query head attends to the keys that collide with it in two tables or more, on the CPU, each weighted by the
 * inverse of its chance to be sampled. Sinks, local window and generated tokens are attended on the GPU, and the parts
 * are merged. arXiv 2410.16179; Infini-AI-Lab/MagicPIG models/attnserver.py, library/lsh/lsh.cc, sparse_attention.cc.
 */
import * as z from 'zod';
import { meanQuery } from '../group-rows.ts';
import { centre } from '../k-means.ts';
import { LshIndex, samplingChance } from '../lsh-index.ts';
import { hashingWorks, samplingWorks } from '../lsh-works.ts';
import {
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

const config = z.object({
  hashes: z.int().min(1).max(16).default(10).describe('signs of a code (K)'),
  tables: z.int().min(1).max(1024).default(150).describe('hash tables (L), 150 to 300 published'),
  collisions: z
    .int()
    .min(1)
    .max(2)
    .default(2)
    .describe('tables in which a sampled key shares the code of the query, at least'),
  centred: z.boolean().default(true).describe('take the mean key off first, so that directions spread'),
  floor: z
    .number()
    .min(0)
    .default(1e-4)
    .describe('added to the chance to be sampled before it divides the weight'),
  sinkTokens: z.int().min(0).default(4).describe('first tokens, always in HBM'),
  localTokens: z
    .int()
    .min(1)
    .default(64)
    .describe('last prompt tokens, always in HBM; generated tokens stay there too'),
  denseLayers: z
    .array(z.int().min(0))
    .default([0, 16, 32, 48, 64])
    .describe('layers with full attention in HBM'),
});
type Config = z.infer<typeof config>;

interface HeadState {
  readonly index: LshIndex;
  /** The hashed keys. */
  readonly rows: Float32Array;
}

const lengthOf = (rows: Float32Array): number => Math.sqrt(dot(rows, rows));

const dot = (a: Float32Array, b: Float32Array): number => {
  let sum = 0;
  for (let c = 0; c < a.length; c++) sum += a[c] * b[c];
  return sum;
};

class SamplingLayer implements LayerPolicy {
  private readonly c: Config;
  private readonly world: World;
  private readonly states: HeadState[] = [];
  /** Tokens after the sinks that are hashed. */
  private readonly hashed: number;

  constructor(c: Config, world: World) {
    this.c = c;
    this.world = world;
    this.hashed = Math.max(0, world.promptTokens - c.sinkTokens - c.localTokens);
  }

  onPrefill(view: LayerView): void {
    const { c, world, hashed: count } = this;
    const channels = world.headDim;
    for (const head of count === 0 ? [] : view.heads) {
      const from = c.sinkTokens * channels;
      const raw = { rows: head.keys.subarray(from, from + count * channels), count, channels };
      const source = c.centred ? centre(raw).source : raw;
      const index = new LshIndex(source, c.hashes, c.tables, head.random);
      this.states.push({ index, rows: source.rows });
      head.cache.move(c.sinkTokens, c.sinkTokens + count, 'dram');
      // Lists and bounds, and 4 bytes for the norm of each key.
      head.cache.setMeta('tables', 'dram', LshIndex.bytes(count, c.hashes, c.tables) + 4 * count);
    }
  }

  select(view: StepView, picks: readonly Pick[]): void {
    const { c, world, hashed } = this;
    const { groupSize, headDim } = world;
    const perQuery = possibleVote('per-query', world) === 'per-query';
    this.states.forEach((state, at) => {
      const pick = picks[at];
      const queries = view.queries(at);
      pick.none();
      pick.take(0, c.sinkTokens);
      pick.take(c.sinkTokens + hashed, view.length);
      let [probes, sampled] = [0, 0];
      for (let g = 0; g < (perQuery ? groupSize : 1); g++) {
        const query = perQuery
          ? queries.subarray(g * headDim, (g + 1) * headDim)
          : Float32Array.from(meanQuery(queries, world));
        const found = state.index.sample(query, c.collisions);
        probes += found.probes;
        sampled += found.count;
        for (const row of found.rows.subarray(0, found.count)) {
          const token = c.sinkTokens + row;
          const factor = this.factorOf(query, state.rows.subarray(row * headDim, (row + 1) * headDim));
          pick.take(token, token + 1, perQuery ? g : undefined);
          if (perQuery) pick.weigh(token, g, factor);
          else for (let q = 0; q < groupSize; q++) pick.weigh(token, q, factor);
        }
      }
      const found = { probes, sampled, hashed, queries: perQuery ? groupSize : 1 };
      for (const work of samplingWorks(c, world, found)) pick.score(work);
    });
  }

  /** What a sampled key's softmax weight is multiplied with: one over the chance that it was sampled. */
  private factorOf(query: Float32Array, key: Float32Array): number {
    const { hashes, tables, collisions, floor } = this.c;
    const sizes = lengthOf(query) * lengthOf(key);
    const cosine = sizes === 0 ? 0 : dot(query, key) / sizes;
    return 1 / (samplingChance(cosine, hashes, tables, collisions) + floor);
  }
}

export const policy = {
  name: 'magicpig',
  title: 'MagicPIG',
  family: 'selection',
  source: 'arXiv 2410.16179; Infini-AI-Lab/MagicPIG',
  requires: ['k', 'q'],
  config,
  create: (c, world): Policy => ({
    ...policyDefaults,
    inputs:
      world.groupSize > 1 && possibleVote('per-query', world) !== 'per-query'
        ? 'one sample a query group, by its mean query'
        : 'exact',
    isDenseLayer: (layer) => c.denseLayers.includes(layer),
    transfer: {
      mode: 'dma',
      rowTokens: 1,
      joinHeads: false,
      joinKv: false,
      overlap: 'step',
      attendAt: 'cpu',
    },
    // The projections, which all layers share.
    stagingBytes: world.kBytesPerToken * c.hashes * c.tables,
    prefillWork: hashingWorks(c, world),
    layer: () => new SamplingLayer(c, world),
  }),
} satisfies PolicyPlugin<typeof config>;
