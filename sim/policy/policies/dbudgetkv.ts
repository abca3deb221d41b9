/**
 * DBudgetKV: no fixed budget. Prompt tokens are ranked by position (the first m, then the most recent first), and each
 * head prunes from the bottom of that ranking until the Frobenius norm of its attention matrix has lost a threshold.
 * arXiv 2502.16886 (threshold 1 %, its "ReFreeKV" versions; the ranking in its method section). Assumed, as no code
 * could be read: m = 4, heads are pruned one by one, pruned columns count as zero without a new softmax.
 */
import * as z from 'zod';
import { columnsField, columnWork } from '../attention-columns.ts';
import { LENGTH_BYTES } from '../budgets.ts';
import { type Policy, type PolicyPlugin, type PrefillView, policyDefaults, type World } from '../policy.ts';
import { promptColumns, visitPromptRows } from '../prompt-rows.ts';

const config = z.object({
  threshold: z.number().min(0).max(1).default(0.01).describe('share of the norm that pruning may lose'),
  firstTokens: z.int().min(0).default(4).describe('first tokens, ranked above all others (m)'),
  scope: z.enum(['head', 'layer']).default('head').describe('whose attention matrix decides on a budget'),
  columns: columnsField,
});

/** Squared norm of each column of a KV head's prompt attention, all query heads: [promptTokens]; null when unknown. */
const columnNorms = (view: PrefillView, at: number, world: World): Float64Array | null => {
  const n = view.length;
  const squares = new Float64Array(n);
  const queries = visitPromptRows(view, at, world, n, (row) => {
    for (let i = 0; i < row.length; i++) squares[i] += row[i] * row[i];
  });
  if (queries > 0) return squares;
  if (view.promptMass(at) === null) return null;
  const { sums, seen } = promptColumns(view, at, world);
  // (Σ a)² / N, the least that Σ a² can be.
  for (let i = 0; i < sums.length; i++) squares[i % n] += (sums[i] * sums[i]) / seen[i % n];
  return squares;
};

/** First prompt token behind the pruned ones [firstTokens, …): as far as the norm that is left allows. */
const pruneEnd = (squares: Float64Array, firstTokens: number, threshold: number): number => {
  const total = squares.reduce((sum, square) => sum + square, 0);
  const least = total * (1 - threshold) * (1 - threshold);
  let left = total;
  let end = Math.min(firstTokens, squares.length);
  // The newest token stays: something has to be attended to.
  while (end < squares.length - 1 && left - squares[end] >= least) left -= squares[end++];
  return end;
};

const inputsOf = ({ fields }: World): string =>
  fields.has('qprompt')
    ? 'attention matrix of the last prompt queries that the trace records'
    : fields.has('prefillMass')
      ? 'column norms bounded from column sums of the prompt (trace has no qprompt)'
      : 'nothing is pruned (trace has neither qprompt nor prefillMass)';

export const policy = {
  name: 'dbudgetkv',
  title: 'DBudgetKV',
  family: 'eviction',
  source: 'arXiv 2502.16886',
  requires: ['k', 'q'],
  prefers: ['qprompt'],
  config,
  create: ({ threshold, firstTokens, scope, columns }, world): Policy => ({
    ...policyDefaults,
    inputs: inputsOf(world),
    prefillWork: [columnWork({ columns, tokens: 1, queries: world.promptTokens / 2, stateBytes: 4 }, world)],
    layer: () => ({
      onPrefill(view) {
        const norms = view.heads.map((_, at) => columnNorms(view, at, world));
        const whole = new Float64Array(view.length);
        for (const squares of norms) {
          squares?.forEach((square, i) => {
            whole[i] += square;
          });
        }
        view.heads.forEach(({ cache }, at) => {
          if (scope === 'head') cache.setMeta('lengths', 'hbm', LENGTH_BYTES);
          const squares = norms[at];
          if (squares === null) return;
          const first = Math.min(firstTokens, view.length);
          cache.drop(first, pruneEnd(scope === 'layer' ? whole : squares, first, threshold));
        });
      },
    }),
  }),
} satisfies PolicyPlugin<typeof config>;
