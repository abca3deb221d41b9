/**
 * KVzip: the model reads its prompt again, chunk by chunk ("repeat the previous context"), and a token's score is the
 * most attention that any of those queries pays it; one threshold over all layers and KV heads keeps the best, before
 * any question is known. arXiv 2505.23416; snu-mllab/KVzip attention/score.py, model/wrapper.py (chunks of 2000, 8 tokens
 * carried over), args.py (ratio 0.3). A trace has no second reading: recorded scores, or a stated stand-in.
 */
import * as z from 'zod';
import { answerFields, answerInputs, answerVotes, type ScoreSource, scoreSource } from '../answer-votes.ts';
import { modelBudgets, sharedBudgets } from '../budgets.ts';
import {
  type Policy,
  type PolicyPlugin,
  type PromptView,
  policyDefaults,
  type Work,
  type World,
} from '../policy.ts';
import { compactWork, evictPrompt } from '../prompt-eviction.ts';
import { reduceGroup, sameVote } from '../votes.ts';

const config = z.object({
  keepRatio: z
    .number()
    .gt(0)
    .max(1)
    .default(0.3)
    .describe('share of the prompt that is kept, mean over layers and KV heads, sinks included'),
  level: z
    .enum(['pair', 'uniform'])
    .default('pair')
    .describe('one threshold over all layers and heads, or the same number of tokens for every head'),
  sinkTokens: z.int().min(0).default(4).describe('first tokens, always kept (the system prompt)'),
  group: z.enum(['max', 'mean']).default('max').describe('score of a query group'),
  chunkTokens: z.int().min(1).default(2000).describe('prompt tokens that one pass reads again'),
  carriedTokens: z.int().min(0).default(8).describe('tokens of the chunk before that a pass starts with'),
  instructionTokens: z
    .int()
    .min(0)
    .default(16)
    .describe('tokens of the request to repeat, in every pass (assumed: it depends on the tokenizer)'),
  windowTokens: z.int().min(1).default(32).describe('last prompt queries that vote with score=window'),
  ...answerFields,
  score: z
    .enum(['auto', 'trace', 'mass', 'window', 'oracle'])
    .default('auto')
    .describe(
      "scores recorded in the trace (utility), mean attention that the prompt's own queries paid, votes of its last queries, or of the answer's own (reads the future); auto = the first of them that the trace has",
    ),
});
type Config = z.infer<typeof config>;
type Source = ScoreSource | 'mass';

const sourceOf = (score: Config['score'], world: World): Source => {
  if (score === 'mass') return score;
  const source = scoreSource('kvzip', score, world);
  return score === 'auto' && source === 'window' && world.fields.has('prefillMass') ? 'mass' : source;
};

const SECOND_READING = 'that of a second reading';

const inputsOf = (source: Source, world: World): string =>
  source === 'mass'
    ? `mean attention in prefill instead of ${SECOND_READING}`
    : answerInputs(source, SECOND_READING, world);

/** One score per prompt token of a KV head. */
const scoresOf = (view: PromptView, head: number, world: World, source: Source, c: Config): Float32Array => {
  const n = view.length;
  if (source === 'mass') {
    const mass = view.promptMass(head) ?? new Float32Array(n);
    // Token i was seen by the n - i queries from its own position on.
    return mass.slice(0, n).map((sum, i) => sum / ((n - i) * world.groupSize));
  }
  return reduceGroup(
    answerVotes(view, head, world, { ...c, source, over: 'max' }),
    world.groupSize,
    n,
    c.group,
  );
};

/** Reading the prompt again: as many passes as chunks, each of them over the whole cache. */
const passesOf = ({ promptTokens }: World, { chunkTokens, carriedTokens, instructionTokens }: Config) => {
  const passes = Math.ceil(promptTokens / chunkTokens);
  const tokens = Math.round(promptTokens / passes) + carriedTokens + instructionTokens;
  return { tokens, contextTokens: promptTokens + (tokens + 1) / 2, passes, adapterRank: 0 };
};

/** Per prompt token: its chunk's queries against sinks, chunk and themselves; eager rows written and read twice. */
const scoreWork = (world: World, c: Config): Work => {
  const { tokens, passes } = passesOf(world, c);
  const chunk = world.promptTokens / passes;
  const keys = c.sinkTokens + chunk + tokens;
  const entries = (world.groupSize * tokens * keys) / chunk;
  const rowBytes = (entries * world.kBytesPerToken) / world.headDim;
  return {
    index: 'votes',
    readBytes: { hbm: world.kBytesPerToken * (keys / chunk) + 2 * rowBytes },
    writeBytes: { hbm: 2 * rowBytes },
    flops: 0,
    matrixFlops: 2 * world.headDim * entries,
    kernels: 4,
  };
};

export const policy = {
  name: 'kvzip',
  title: 'KVzip',
  family: 'eviction',
  source: 'arXiv 2505.23416; snu-mllab/KVzip',
  requires: ['k', 'q'],
  prefers: ['utility', 'prefillMass', 'qprompt'],
  config,
  atBudget: (tokens, world) => ({ keepRatio: Math.min(1, tokens / world.promptTokens) }),
  create: (c, world): Policy => {
    const source = sourceOf(c.score, world);
    // Whole tokens; the margin takes back what dividing by the prompt's length may have rounded off.
    const budgetTokens = Math.floor(c.keepRatio * world.promptTokens + 1e-6);
    const elected = Math.max(0, budgetTokens - c.sinkTokens);
    const surveyed = new Map<number, readonly Float32Array[]>();
    const candidates = (): ReadonlyMap<number, readonly Float32Array[]> =>
      new Map(
        [...surveyed].map(([layer, heads]) => [layer, heads.map((scores) => scores.subarray(c.sinkTokens))]),
      );
    let shared: ReadonlyMap<number, readonly number[]> | null = null;
    return {
      ...policyDefaults,
      oracle: source === 'oracle',
      inputs: inputsOf(source, world),
      extraPass: passesOf(world, c),
      prefillWork: [scoreWork(world, c), compactWork(world, budgetTokens)],
      survey(view) {
        surveyed.set(
          view.layer,
          view.heads.map((_, head) => scoresOf(view, head, world, source, c)),
        );
      },
      layer: (layer) =>
        evictPrompt(world, {
          ...c,
          kernel: 1,
          pooling: 'max',
          recentTokens: 0,
          votes: (view, head) => {
            const scores = surveyed.get(layer)?.[head] ?? scoresOf(view, head, world, source, c);
            return sameVote(scores, view.length, world.groupSize);
          },
          budgets: (rows, view) => {
            for (const head of view.heads) head.cache.setMeta('lengths', 'hbm', 4);
            if (c.level === 'uniform') return rows.map(() => elected);
            shared ??= modelBudgets(candidates(), world.layers, elected);
            return shared.get(layer) ?? sharedBudgets(rows, elected * rows.length);
          },
        }),
    };
  },
} satisfies PolicyPlugin<typeof config>;
