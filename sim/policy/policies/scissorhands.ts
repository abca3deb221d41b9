/**
 * Scissorhands: tokens that mattered lately will matter. Each head remembers, for the last w queries, who got at least
 * uniform attention, and when its buffer is full drops the tokens for which that was rarest, outside the last r.
 * arXiv 2305.17118, Algorithm 2 (w 400, r 10 in AnswerDotAI/cold-compress cache.py, which divides by the queries that
 * saw the token and drops one at a time); a fifth of the prompt is the paper's 5x of memory.
 */
import * as z from 'zod';
import { SimError } from '../../error.ts';
import { columnsField, columnWork } from '../attention-columns.ts';
import { choosersOf, groupRows } from '../group-rows.ts';
import { HitHistory } from '../hit-history.ts';
import { Holders } from '../holders.ts';
import { type Policy, type PolicyPlugin, type PrefillView, policyDefaults, type World } from '../policy.ts';
import { evictionFields, possibleVote } from '../prompt-eviction.ts';
import { promptColumns, promptRowInputs, visitPromptQueries } from '../prompt-rows.ts';

const config = z.object({
  budgetRatio: z.number().min(0).max(1).default(0.2).describe('tokens kept, as a share of the prompt'),
  budgetTokens: z.int().min(2).nullable().default(null).describe('tokens kept; null = by budgetRatio'),
  historyTokens: z.int().min(1).default(400).describe('queries that importance is counted over (w)'),
  recentTokens: z.int().min(1).default(10).describe('most recent tokens, never dropped (r)'),
  dropTokens: z.int().min(1).default(1).describe('tokens dropped at a time when the buffer is full (m)'),
  group: evictionFields.group,
  columns: columnsField,
});

/** Bytes of a token's count of hits. */
const COUNT_BYTES = 4;

/** Takes the prompt's last queries into the histories of a head's choosers; its mean attention where they lack. */
const readPrompt = (
  view: PrefillView,
  at: number,
  world: World,
  window: number,
  add: (rows: Float32Array, length: number) => void,
): void => {
  const queries = visitPromptQueries(view, at, world, window, add);
  if (queries > 0 || view.promptMass(at) === null) return;
  const { sums, seen } = promptColumns(view, at, world);
  add(
    sums.map((sum, i) => sum / seen[i % view.length]),
    view.length,
  );
};

export const policy = {
  name: 'scissorhands',
  title: 'Scissorhands',
  family: 'eviction',
  source: 'arXiv 2305.17118',
  requires: ['k', 'q'],
  prefers: ['qprompt'],
  config,
  atBudget: (tokens) => ({ budgetTokens: tokens }),
  create: (c, world): Policy => {
    const group = possibleVote(c.group, world);
    const choosers = choosersOf(group, world);
    const budget = c.budgetTokens ?? Math.floor(c.budgetRatio * world.promptTokens);
    if (budget <= c.recentTokens) {
      throw new SimError(
        'invalid-input',
        `policy scissorhands: expected a budget above recentTokens ${c.recentTokens}, found ${budget} tokens`,
      );
    }
    const storedBytes = COUNT_BYTES + c.historyTokens / 8;
    const work = { columns: c.columns, copies: choosers, stateBytes: COUNT_BYTES + 1 / 8 };
    const promptQueries = Math.min(c.historyTokens, world.promptTokens);
    return {
      ...policyDefaults,
      replicated: choosers > 1,
      learns: true,
      inputs:
        world.fields.has('prefillMass') && !world.fields.has('qprompt')
          ? 'history begins with the mean attention of the prompt (trace has no qprompt)'
          : promptRowInputs(world, 'history of the prompt'),
      prefillWork: [columnWork({ ...work, tokens: 1, queries: promptQueries }, world)],
      layer: () => {
        const heads: { holders: Holders; histories: readonly HitHistory[] }[] = [];
        const rates = new Float32Array(world.maxTokens);
        /** Stored tokens that went in this step, by head. */
        const dropped: number[] = [];
        /** Drops, of each chooser that holds more than `limit`, what is over `target`. */
        const shrink = (at: number, limit: number, target: number): void => {
          const { holders, histories } = heads[at];
          histories.forEach((history, chooser) => {
            const count = holders.counts[chooser];
            if (count <= limit) return;
            const held = holders.positions[chooser];
            const end = count - c.recentTokens;
            for (let i = 0; i < end; i++) rates[held[i]] = history.rate(held[i]);
            holders.dropLeast(chooser, rates, 0, end, count - target);
          });
        };
        const learn = (at: number, rows: Float32Array, length: number): void => {
          const { holders, histories } = heads[at];
          const reduced = groupRows(rows, world.groupSize, length, group);
          histories.forEach((history, chooser) => {
            const row = reduced.subarray(chooser * length, (chooser + 1) * length);
            history.add(row, Math.min(length, holders.counts[chooser]));
          });
        };
        return {
          onPrefill(view) {
            view.heads.forEach(({ cache }, at) => {
              const histories = Array.from(
                { length: choosers },
                () => new HitHistory(c.historyTokens, world.maxTokens),
              );
              heads.push({ holders: new Holders(cache, choosers), histories });
              heads[at].holders.add(0, view.length);
              readPrompt(view, at, world, c.historyTokens, (rows, length) => learn(at, rows, length));
              shrink(at, budget, budget);
              cache.setMeta('history', 'hbm', heads[at].holders.rows * storedBytes);
            });
          },
          onAppend(view) {
            view.heads.forEach(({ cache }, at) => {
              heads[at].holders.add(view.length - 1, view.length);
              const before = heads[at].holders.rows;
              shrink(at, budget, Math.max(c.recentTokens, budget + 1 - c.dropTokens));
              dropped[at] = before - heads[at].holders.rows;
              cache.setMeta('history', 'hbm', heads[at].holders.rows * storedBytes);
            });
          },
          select(_, picks) {
            heads.forEach(({ holders }, at) => {
              const tokens = holders.rows / choosers;
              picks[at].score(columnWork({ ...work, tokens, queries: 1 }, world));
              if (dropped[at] > choosers) picks[at].topk(tokens + c.dropTokens, tokens, choosers);
              holders.take(picks[at]);
            });
          },
          observe(view, probabilities) {
            probabilities.forEach((rows, at) => {
              learn(at, rows, view.length);
            });
          },
        };
      },
    };
  },
} satisfies PolicyPlugin<typeof config>;
