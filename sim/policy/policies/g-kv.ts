/**
 * G-KV: a cache that is compressed while it decodes. Every 128 steps the last queries' attention, the strongest of the
 * group, is set against what a token scored before (the larger of the two, the old one fading) and against how
 * redundant its key is; the best stay, and a window. arXiv 2512.00504; microsoft/G-KV gkv/model/compression/
 * score_based.py, scripts/inference.sh. R-KV is `memory=none;poolTokens=5;balance=0.1`, H2O's sum `memory=sum`.
 */
import * as z from 'zod';
import { columnWork } from '../attention-columns.ts';
import { groupRows } from '../group-rows.ts';
import { Holders } from '../holders.ts';
import { keyRedundancy } from '../key-redundancy.ts';
import {
  type HeadView,
  type Policy,
  type PolicyPlugin,
  policyDefaults,
  type Work,
  type World,
} from '../policy.ts';
import { promptRowInputs, visitPromptQueries } from '../prompt-rows.ts';

const config = z
  .object({
    budgetTokens: z.int().min(2).default(2048).describe('tokens kept at a compression, window included'),
    everySteps: z.int().min(1).default(128).describe('decode steps from one compression to the next'),
    windowTokens: z.int().min(1).default(16).describe('last tokens, whose queries score and which stay'),
    memory: z
      .enum(['max', 'mean', 'sum', 'none'])
      .default('max')
      .describe('how an old score joins the new one; none = neither remembered nor normalised'),
    decay: z.number().min(0).max(1).default(0.8).describe('weight of an old score (alpha)'),
    balance: z
      .number()
      .min(0)
      .max(1)
      .default(0.5)
      .describe('attention against redundancy (lambda); 1 = attention'),
    similarity: z.number().min(-1).max(1).default(0.5).describe('cosine from which two keys are alike'),
    poolTokens: z
      .int()
      .min(1)
      .default(1)
      .describe('width of max pooling along the kept tokens, odd; 1 = none'),
  })
  .refine(({ budgetTokens, windowTokens }) => budgetTokens > windowTokens, {
    path: ['budgetTokens'],
    error: 'expected more than windowTokens',
  });
type Config = z.infer<typeof config>;

/** A token that no compression has scored. */
const UNSCORED = -1;

const maxPooled = (scores: Float64Array, width: number): Float64Array => {
  const half = width >> 1;
  return scores.map((_, i) => {
    let largest = scores[i];
    for (let j = Math.max(0, i - half); j <= Math.min(scores.length - 1, i + half); j++)
      largest = Math.max(largest, scores[j]);
    return largest;
  });
};

const joined = (old: number, now: number, { memory, decay }: Config): number => {
  if (memory === 'none') return now;
  // What is new to the score cache counts as its own past.
  const before = old === UNSCORED ? (memory === 'sum' ? 0 : now) : old;
  if (memory === 'max') return Math.max(decay * before, now);
  return memory === 'mean' ? decay * before + (1 - decay) * now : decay * before + now;
};

/** One KV head: what it holds, the attention of its last queries, and the scores of the last compression. */
class GlobalScores {
  readonly holders: Holders;
  private readonly rows: Float32Array[] = [];
  private readonly old: Float32Array;
  private readonly ranks: Float32Array;
  private readonly head: HeadView;

  constructor(head: HeadView, capacityTokens: number) {
    this.head = head;
    this.holders = new Holders(head.cache, 1);
    this.old = new Float32Array(capacityTokens).fill(UNSCORED);
    this.ranks = new Float32Array(capacityTokens);
  }

  /** One more query's attention on tokens 0 .. row.length-1. */
  add(row: Float32Array, windowTokens: number): void {
    this.rows.push(row);
    if (this.rows.length > windowTokens) this.rows.shift();
  }

  /** Drops what ranks least until `budgetTokens` are held. */
  compress(c: Config, headDim: number): void {
    const { holders, head, old, ranks } = this;
    const [count] = holders.counts;
    const [held] = holders.positions;
    const past = count - c.windowTokens;
    const scores = new Float64Array(past);
    for (const row of this.rows) {
      for (let i = 0; i < past; i++) scores[i] += (row[held[i]] ?? 0) / this.rows.length;
    }
    const most = scores.reduce((a, b) => Math.max(a, b), 0);
    for (let i = 0; i < past; i++) {
      const now = c.memory === 'none' || most === 0 ? scores[i] : scores[i] / most;
      scores[i] = joined(old[held[i]], now, c);
      old[held[i]] = scores[i];
    }
    const pooled = maxPooled(scores, c.poolTokens);
    if (c.balance < 1) {
      const redundancy = keyRedundancy(head.keys, headDim, held, count, c.similarity);
      const largest = redundancy.subarray(0, past).reduce((a, b) => Math.max(a, b), 0);
      const scale = (1 - c.balance) / (c.memory === 'none' ? 1 : largest);
      for (let i = 0; i < past; i++) pooled[i] = c.balance * pooled[i] - scale * redundancy[i];
    }
    const least = pooled.reduce((a, b) => Math.min(a, b), Infinity);
    for (let i = 0; i < past; i++) ranks[held[i]] = pooled[i] - least;
    holders.dropLeast(0, ranks, 0, past, count - c.budgetTokens);
  }
}

/** Scoring `tokens` keys, priced for `per` of them: the window's attention and every pair of keys. */
const compressionWorks = (tokens: number, per: number, c: Config, world: World): readonly Work[] => {
  const columns = columnWork(
    { columns: 'second-pass', tokens: per, queries: c.windowTokens, stateBytes: 4 },
    world,
  );
  if (c.balance === 1) return [columns];
  const readBytes = { hbm: per * world.kBytesPerToken };
  const matrixFlops = 2 * world.headDim * tokens * per;
  return [columns, { index: 'key-redundancy', readBytes, flops: 0, matrixFlops, kernels: 2 }];
};

export const policy = {
  name: 'g-kv',
  title: 'G-KV',
  family: 'eviction',
  source: 'arXiv 2512.00504; microsoft/G-KV',
  requires: ['k', 'q'],
  prefers: ['qprompt'],
  config,
  atBudget: (tokens) => ({ budgetTokens: tokens, windowTokens: Math.min(16, tokens >> 1) }),
  create: (c, world): Policy => {
    const n = world.promptTokens;
    /** Bytes beside the KV: a score a token, and the queries of the window. */
    const metaBytes = (tokens: number): number =>
      4 * tokens + c.windowTokens * world.groupSize * world.kBytesPerToken;
    return {
      ...policyDefaults,
      learns: true,
      inputs: world.fields.has('qprompt') ? 'exact' : promptRowInputs(world, 'attention of the prompt'),
      prefillWork: n > c.budgetTokens ? compressionWorks(n, 1, c, world) : [],
      layer: () => {
        const heads: GlobalScores[] = [];
        let steps = 0;
        /** Tokens that this step's compression ranked, by head; 0 = none was due. */
        const ranked: number[] = [];
        return {
          onPrefill(view) {
            view.heads.forEach((head, at) => {
              heads.push(new GlobalScores(head, world.maxTokens));
              heads[at].holders.add(0, view.length);
              visitPromptQueries(view, at, world, c.windowTokens, (rows, length) =>
                heads[at].add(groupRows(rows, world.groupSize, length, 'max'), c.windowTokens),
              );
              if (view.length > c.budgetTokens) heads[at].compress(c, world.headDim);
              head.cache.setMeta('scores', 'hbm', metaBytes(head.cache.liveTokens));
            });
          },
          onAppend(view) {
            const isDue = steps > 0 && steps % c.everySteps === 0;
            steps++;
            heads.forEach((head, at) => {
              const tokens = head.holders.rows;
              ranked[at] = isDue && tokens > c.budgetTokens ? tokens : 0;
              if (ranked[at] > 0) {
                head.compress(c, world.headDim);
                for (const work of compressionWorks(tokens, tokens, c, world)) view.work(work);
              }
              head.holders.add(view.length - 1, view.length);
              view.heads[at].cache.setMeta('scores', 'hbm', metaBytes(head.holders.rows));
            });
          },
          select(_, picks) {
            ranked.forEach((tokens, at) => {
              if (tokens > 0) picks[at].topk(tokens, c.budgetTokens);
            });
          },
          observe(view, probabilities) {
            heads.forEach((head, at) => {
              head.add(groupRows(probabilities[at], world.groupSize, view.length, 'max'), c.windowTokens);
            });
          },
        };
      },
    };
  },
} satisfies PolicyPlugin<typeof config>;
