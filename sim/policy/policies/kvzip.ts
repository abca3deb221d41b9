/**
 * KVzip: the model reads its prompt again, chunk by chunk ("repeat the previous context"), and a token's score is the
 * most attention that any of those queries pays it; one threshold over all layers and KV heads keeps the best, before
 * any question is known. arXiv 2505.23416; snu-mllab/KVzip attention/score.py, model/wrapper.py (chunks of 2000, 8 tokens
 * carried over), args.py (ratio 0.3). A trace has no second reading: recorded scores, or a stated stand-in.
 * Its static variant (README, --level head, ratio 0.6) keeps or empties whole heads by scores of another text, at no cost.
 */
import * as z from 'zod';
import { answerFields, answerInputs, answerVotes, type ScoreSource, scoreSource } from '../answer-votes.ts';
import { LENGTH_BYTES, modelBudgets, sharedBudgets } from '../budgets.ts';
import { type Policy, type PolicyPlugin, type PromptView, policyDefaults, type World } from '../policy.ts';
import { compactWork, evictPrompt, keptAtBudget } from '../prompt-eviction.ts';
import { passesOf, scoreWork } from '../second-reading.ts';
import { givenInputs, givenScores, rankedAmong, type ScoredHead } from '../streaming-heads.ts';
import { reduceGroup, sameVote } from '../votes.ts';
import { headScore, keptHeads } from '../whole-heads.ts';

const config = z.object({
  keepRatio: z
    .number()
    .gt(0)
    .max(1)
    .optional()
    .describe(
      'share of the prompt that is kept, mean over layers and KV heads, sinks and question included; default: 0.3, or 0.6 by head',
    ),
  level: z
    .enum(['pair', 'uniform', 'head'])
    .default('pair')
    .describe(
      'one threshold over the tokens of all layers and heads; or the same number of tokens for every head; or whole heads, by scores that cost nothing (static)',
    ),
  heads: z
    .array(z.array(z.number()))
    .nullable()
    .default(null)
    .describe(
      'level head: score of every KV head, a row a layer (@FILE reads a table); null = the largest score of its tokens here',
    ),
  sinkTokens: z.int().min(0).default(4).describe('first tokens, always kept (the system prompt)'),
  questionTokens: z
    .int()
    .min(0)
    .default(32)
    .describe(
      'last prompt tokens, always kept: the question, read after the context was compressed (assumed: no trace says where it begins)',
    ),
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

/** Published shares: args.py --ratio, and README for --level head. */
const RATIO = 0.3;
const STATIC_RATIO = 0.6;
const SECOND_READING = 'that of a second reading';

const inputsOf = (source: Source, c: Config, world: World): string => {
  if (c.level === 'head' && c.heads !== null) return givenInputs(world);
  const tokens =
    source === 'mass'
      ? `mean attention in prefill instead of ${SECOND_READING}`
      : answerInputs(source, SECOND_READING, world);
  return c.level === 'head'
    ? `head scores of this text instead of another${rankedAmong(world)}${tokens === 'exact' ? '' : `; ${tokens}`}`
    : tokens;
};

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

export const policy = {
  name: 'kvzip',
  title: 'KVzip',
  family: 'eviction',
  source: 'arXiv 2505.23416; snu-mllab/KVzip',
  requires: ['k', 'q'],
  prefers: ['utility', 'prefillMass', 'qprompt'],
  config,
  atBudget: (tokens, world) => ({ keepRatio: Math.min(1, tokens / world.promptTokens), level: 'pair' }),
  create: (c, world): Policy => {
    const source = sourceOf(c.score, world);
    const isStatic = c.level === 'head';
    const keepRatio = c.keepRatio ?? (isStatic ? STATIC_RATIO : RATIO);
    // Whole tokens; the margin takes back what dividing by the prompt's length may have rounded off.
    const budgetTokens = Math.floor(keepRatio * world.promptTokens + 1e-6);
    // No more of a small budget than half goes to the question.
    const questionTokens = keptAtBudget(budgetTokens, c.questionTokens);
    const elected = Math.max(0, budgetTokens - c.sinkTokens - questionTokens);
    const surveyed = new Map<number, readonly Float32Array[]>();
    const scored: ScoredHead[] =
      isStatic && c.heads !== null ? [...givenScores('kvzip', c.heads, world)] : [];
    const electable = (scores: Float32Array): Float32Array =>
      scores.subarray(c.sinkTokens, scores.length - questionTokens);
    const candidates = (): ReadonlyMap<number, readonly Float32Array[]> =>
      new Map([...surveyed].map(([layer, heads]) => [layer, heads.map(electable)]));
    let shared: ReadonlyMap<number, readonly number[]> | null = null;
    let isKept: ReturnType<typeof keptHeads> | null = null;
    return {
      ...policyDefaults,
      oracle: source === 'oracle',
      inputs: inputsOf(source, c, world),
      extraPass: isStatic ? null : passesOf(world, c),
      prefillWork: [...(isStatic ? [] : [scoreWork(world, c)]), compactWork(world, budgetTokens)],
      survey(view) {
        const scores = view.heads.map((_, head) => scoresOf(view, head, world, source, c));
        if (!isStatic) surveyed.set(view.layer, scores);
        else if (c.heads === null)
          view.heads.forEach(({ kvHead }, at) => {
            scored.push({ layer: view.layer, kvHead, score: headScore(electable(scores[at])) });
          });
      },
      layer: (layer) =>
        evictPrompt(world, {
          ...c,
          kernel: 1,
          pooling: 'max',
          recentTokens: questionTokens,
          votes: (view, head) => {
            const scores = surveyed.get(layer)?.[head] ?? scoresOf(view, head, world, source, c);
            return sameVote(scores, view.length, world.groupSize);
          },
          budgets: (rows, view) => {
            for (const head of view.heads) head.cache.setMeta('lengths', 'hbm', LENGTH_BYTES);
            if (isStatic) {
              const keeps = isKept ?? keptHeads(scored, keepRatio);
              isKept = keeps;
              return rows.map((row, at) => (keeps(layer, view.heads[at].kvHead) ? row.length : 0));
            }
            if (c.level === 'uniform') return rows.map(() => elected);
            shared ??= modelBudgets(candidates(), world.layers, elected);
            return shared.get(layer) ?? sharedBudgets(rows, elected * rows.length);
          },
        }),
    };
  },
} satisfies PolicyPlugin<typeof config>;
