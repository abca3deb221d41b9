/**
 * TOVA: the newest query judges; whenever the cache is over its size, the token that it attends to least, on average
 * over all heads of the layer, is dropped from all of them. Nothing is protected and nothing is remembered.
 * arXiv 2401.06104; schwartz-lab-NLP/TOVA src/tova_cache.py (example size 512). Here room is made before a token is
 * written; the repository attends to one token more and evicts afterwards. "All heads" are the replayed ones.
 */
import * as z from 'zod';
import { columnsField, columnWork } from '../attention-columns.ts';
import { Holders } from '../holders.ts';
import { type Policy, type PolicyPlugin, policyDefaults } from '../policy.ts';
import { promptRowInputs, visitPromptRows } from '../prompt-rows.ts';

const config = z.object({
  budgetTokens: z.int().min(1).default(512).describe('tokens kept per KV head, the newest included'),
  columns: columnsField,
});

/** A token that no query has judged yet. */
const UNJUDGED = 1;

export const policy = {
  name: 'tova',
  title: 'TOVA',
  family: 'eviction',
  source: 'arXiv 2401.06104; schwartz-lab-NLP/TOVA',
  requires: ['k', 'q'],
  prefers: ['qprompt'],
  config,
  atBudget: (budgetTokens) => ({ budgetTokens }),
  create: ({ budgetTokens, columns }, world): Policy => {
    // The mean over heads is one row for the layer: 4 bytes a token, shared by its KV heads.
    const work = { columns, queries: 1, stateBytes: 4 / world.kvHeads };
    return {
      ...policyDefaults,
      learns: true,
      inputs: world.fields.has('qprompt')
        ? 'exact'
        : promptRowInputs(world, 'attention of the last prompt query'),
      prefillWork: [columnWork({ ...work, tokens: 1 }, world)],
      layer: () => {
        const scores = new Float32Array(world.maxTokens).fill(UNJUDGED);
        /** Every head holds the same tokens. */
        let holders: readonly Holders[] = [];
        const judge = (row: Float32Array, length: number, share: number): void => {
          for (let token = 0; token < length; token++) scores[token] += row[token] * share;
        };
        const makeRoom = (): void => {
          for (const one of holders) one.dropLeast(0, scores, 0, one.counts[0], one.counts[0] - budgetTokens);
        };
        return {
          onPrefill(view) {
            holders = view.heads.map(({ cache }) => new Holders(cache, 1));
            for (const one of holders) one.add(0, view.length);
            if (world.fields.has('qprompt')) scores.fill(0, 0, view.length);
            const share = 1 / (view.heads.length * world.groupSize);
            view.heads.forEach((_, at) => {
              visitPromptRows(view, at, world, 1, (row) => judge(row, row.length, share));
            });
            makeRoom();
          },
          onAppend(view) {
            for (const one of holders)
              one.dropLeast(0, scores, 0, one.counts[0], one.counts[0] + 1 - budgetTokens);
            for (const one of holders) one.add(view.length - 1, view.length);
          },
          select(_, picks) {
            holders.forEach(({ rows }, at) => {
              picks[at].score(columnWork({ ...work, tokens: rows }, world));
            });
          },
          observe(view, probabilities) {
            scores.fill(0, 0, view.length);
            const share = 1 / (probabilities.length * world.groupSize);
            for (const rows of probabilities) {
              for (let g = 0; g < world.groupSize; g++)
                judge(rows.subarray(g * view.length, (g + 1) * view.length), view.length, share);
            }
          },
        };
      },
    };
  },
} satisfies PolicyPlugin<typeof config>;
