/**
 * ParisKV: GPU collision counting plus 4-bit reranking finds the top K tokens of each KV head; their raw K and V rows
 * are read from pinned DRAM by zero-copy loads. Sink, local window and update buffer stay in HBM.
 * arXiv 2602.07721; amy-77/ParisKV. Fetch is not overlapped with compute, as in the authors' code.
 */
import * as z from 'zod';
import { exp } from '../../engine/math.ts';
import { topKPositions } from '../../quality/top-k.ts';
import { ParisIndex } from '../pariskv-index.ts';
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
  topK: z.int().min(1).default(100).describe('tokens retrieved per KV head and step'),
  sinkTokens: z.int().min(0).default(4).describe('first tokens, always in HBM'),
  localTokens: z.int().min(1).default(256).describe('recent tokens, always in HBM'),
  updateTokens: z.int().min(1).default(512).describe('the window slides, and encodes, by this many tokens'),
  minTokens: z.int().min(0).default(2000).describe('full attention below max(this, sink + local + 2 topK)'),
  rho: z
    .number()
    .positive()
    .max(1)
    .optional()
    .describe('share of keys that collide; default by zone length (.5 .3 .25 .2)'),
  beta: z
    .number()
    .positive()
    .max(1)
    .optional()
    .describe('share of keys reranked; default by zone length (.5 .25 .2 .1)'),
  coverage: z
    .number()
    .positive()
    .max(1)
    .optional()
    .describe(
      'adaptive K: fewest winners that cover this share of softmax(estimate)·‖v‖, at most topK (.85 to .90)',
    ),
  offload: z.boolean().default(true).describe('keep the retrieval zone in pinned DRAM (else in HBM)'),
  mode: z.enum(['uva', 'cpu-gather', 'dma-batch']).default('uva').describe('how winners cross the link'),
});
type Config = z.infer<typeof config>;

/** (β, ρ) by length of the retrieval zone (polar_cache.py). */
const searchShares = (zoneTokens: number, c: Config): { readonly beta: number; readonly rho: number } => {
  const [beta, rho] =
    zoneTokens < 5000
      ? [0.5, 0.5]
      : zoneTokens < 10000
        ? [0.25, 0.3]
        : zoneTokens < 30000
          ? [0.2, 0.25]
          : [0.1, 0.2];
  return { beta: c.beta ?? beta, rho: c.rho ?? rho };
};

interface HeadState {
  readonly index: ParisIndex;
  /** 6 a subspace at most: 96 at head dimension 128, 768 where a latent row is padded to 1024 channels. */
  readonly collisions: Uint16Array;
  readonly candidates: Int32Array;
  readonly estimates: Float32Array;
  readonly winners: Int32Array;
  readonly query: Float64Array;
}

const createState = (c: Config, world: World): HeadState => {
  const size = world.maxTokens;
  return {
    index: new ParisIndex(size, world.headDim, c.sinkTokens),
    collisions: new Uint16Array(size),
    candidates: new Int32Array(size),
    estimates: new Float32Array(size),
    winners: new Int32Array(size),
    query: new Float64Array(world.headDim),
  };
};

/** The `count` highest collision scores, ties to earlier keys; fills state.candidates with positions. */
const chooseCandidates = (state: HeadState, n: number, count: number): number => {
  const highest = ParisIndex.maxScore(state.index.subspaces);
  const bins = new Int32Array(highest + 1);
  for (let i = 0; i < n; i++) bins[state.collisions[i]]++;
  let threshold = highest;
  let above = 0;
  for (; threshold > 0 && above + bins[threshold] < count; threshold--) above += bins[threshold];
  let ties = count - above;
  let chosen = 0;
  for (let i = 0; i < n; i++) {
    const score = state.collisions[i];
    if (score > threshold || (score === threshold && ties-- > 0))
      state.candidates[chosen++] = state.index.from + i;
  }
  return chosen;
};

/** Mean query of the group, since ParisKV searches once per KV head. */
const meanQuery = (q: Float32Array, world: World, out: Float64Array): void => {
  out.fill(0);
  for (let g = 0; g < world.groupSize; g++) {
    for (let c = 0; c < world.headDim; c++) out[c] += q[g * world.headDim + c] / world.groupSize;
  }
};

const retrieve = (
  state: HeadState,
  view: StepView,
  at: number,
  pick: Pick,
  world: World,
  c: Config,
): void => {
  const { index } = state;
  const n = index.to - index.from;
  const { beta, rho } = searchShares(n, c);
  meanQuery(view.queries(at), world, state.query);
  index.prepare(state.query, rho);
  index.collide(state.collisions);
  const candidates = chooseCandidates(state, n, Math.ceil(beta * n));
  let least = Infinity;
  for (let i = 0; i < candidates; i++) {
    state.estimates[i] = index.estimate(state.candidates[i]);
    least = Math.min(least, state.estimates[i]);
  }
  for (let i = 0; i < candidates; i++) state.estimates[i] -= least;
  const fixed = topKPositions(state.estimates, candidates, Math.min(c.topK, candidates), state.winners);
  const winners =
    c.coverage === undefined
      ? fixed
      : fewestCovering(state, candidates, fixed, view.heads[at], world, c.coverage);
  pick.none();
  pick.take(0, c.sinkTokens);
  for (let i = 0; i < winners; i++) {
    const token = state.candidates[state.winners[i]];
    pick.take(token, token + 1);
  }
  pick.take(index.to, view.length);
  declareSearch(pick, n, candidates, winners, world);
};

/**
 * Adaptive K: of the `count` best candidates, the fewest whose benefit softmax(estimate)·‖v‖ covers `coverage` of all
 * candidates' benefit. Estimates were shifted by their least, which the softmax does not see.
 */
const fewestCovering = (
  state: HeadState,
  candidates: number,
  count: number,
  { values }: HeadView,
  world: World,
  coverage: number,
): number => {
  const { estimates, winners } = state;
  const d = world.headDim;
  let largest = 0;
  for (let i = 0; i < candidates; i++) largest = Math.max(largest, estimates[i]);
  const benefit = new Float64Array(candidates);
  let total = 0;
  for (let i = 0; i < candidates; i++) {
    let norm = values === null ? 1 : 0;
    if (values !== null) {
      const row = state.candidates[i] * d;
      for (let c = 0; c < d; c++) norm += values[row + c] * values[row + c];
    }
    benefit[i] = exp((estimates[i] - largest) / Math.sqrt(d)) * Math.sqrt(norm);
    total += benefit[i];
  }
  const best = winners.subarray(0, count).sort((a, b) => benefit[b] - benefit[a] || a - b);
  let covered = 0;
  let kept = 0;
  while (kept < count && covered < coverage * total) covered += benefit[best[kept++]];
  return kept;
};

/** Bytes of the search: ids once, 4-byte counts written once and read in three passes, codes of the candidates. */
const declareSearch = (pick: Pick, n: number, candidates: number, winners: number, world: World): void => {
  const bytes = ParisIndex.bytesPerKey(world.headDim);
  const dim = bytes.ids * 8;
  pick.score({
    index: 'collisions',
    readBytes: { hbm: n * (bytes.ids + 3 * 4) },
    writeBytes: { hbm: n * 4 },
    flops: n * bytes.ids + 2 * 256 * dim,
    kernels: 2,
  });
  pick.topk(n, candidates);
  pick.score({
    index: 'rerank',
    readBytes: { hbm: candidates * bytes.rerank },
    flops: 2 * candidates * dim,
    kernels: 1,
  });
  pick.topk(candidates, winners);
};

/** Encodes what left the local window, and moves its raw rows to DRAM. */
const slide = (head: HeadView, state: HeadState, end: number, world: World, c: Config): void => {
  const from = state.index.to;
  if (end <= from) return;
  state.index.encode(head.keys, end);
  if (c.offload) head.cache.move(from, end, 'dram');
  const bytes = ParisIndex.bytesPerKey(world.headDim);
  head.cache.setMeta('index', 'hbm', (end - c.sinkTokens) * (bytes.ids + bytes.rerank) + bytes.ids * 256 * 4);
};

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
  create: (c, world): Policy => {
    const full = Math.max(c.minTokens, c.sinkTokens + c.localTokens + 2 * c.topK);
    const bytes = ParisIndex.bytesPerKey(world.headDim);
    const dim = bytes.ids * 8;
    return {
      ...policyDefaults,
      inputs: c.coverage !== undefined && !world.fields.has('v') ? 'adaptive K without value norms' : 'exact',
      transfer: { mode: c.mode, rowTokens: 1, joinHeads: false, joinKv: false, overlap: 'step' },
      stagingBytes: c.topK * world.kvHeads * (world.kBytesPerToken + world.vBytesPerToken),
      prefillWaits: c.offload,
      prefillWork: [
        {
          index: 'encode',
          readBytes: { hbm: world.kBytesPerToken },
          writeBytes: { hbm: bytes.ids + bytes.rerank },
          flops: 12 * dim,
          kernels: 3,
        },
      ],
      layer: () => {
        const states: HeadState[] = [];
        return {
          onPrefill(view) {
            for (const head of view.heads) {
              const state = createState(c, world);
              states.push(state);
              slide(head, state, view.length - c.localTokens, world, c);
            }
          },
          onAppend(view) {
            view.heads.forEach((head, at) => {
              const state = states[at];
              if (view.length - state.index.to < c.localTokens + c.updateTokens) return;
              slide(head, state, Math.max(state.index.to, c.sinkTokens) + c.updateTokens, world, c);
            });
          },
          select(view, picks) {
            if (view.length < full) return;
            view.heads.forEach((_, at) => {
              if (states[at].index.to > states[at].index.from)
                retrieve(states[at], view, at, picks[at], world, c);
            });
          },
        };
      },
    };
  },
} satisfies PolicyPlugin<typeof config>;
