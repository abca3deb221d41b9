/**
 * What the prompt's own attention says about its keys: softmax rows of the last recorded prompt queries, and column
 * sums per query head. Column sums over the whole prompt come from the trace (`prefillMass`) where it has them.
 */
import type { PromptView, World } from './policy.ts';
import { promptVoters, visitVoters } from './votes.ts';

/**
 * Calls `visit` with the causal softmax row of each of the last `windowTokens` prompt queries of the head at index
 * `at`, oldest first, all query heads of the group: `row[i]` is the attention on token i, and the row is as long as
 * what the query sees. The row is reused. Returns how many queries a query head had, 0 when none are recorded.
 */
export const visitPromptRows = (
  view: PromptView,
  at: number,
  world: World,
  windowTokens: number,
  visit: (row: Float32Array, query: number) => void,
): number => {
  const voters = promptVoters(view, at, windowTokens, world);
  if (voters === null) return 0;
  visitVoters(voters, view.heads[at], world, visit);
  return voters.positions.length;
};

/**
 * The same, all query heads of a prompt query at once: `visit` gets rows that it may keep, row-major
 * [groupSize, length].
 */
export const visitPromptQueries = (
  view: PromptView,
  at: number,
  world: World,
  windowTokens: number,
  visit: (rows: Float32Array, length: number) => void,
): number => {
  const { groupSize } = world;
  let rows = new Float32Array(0);
  return visitPromptRows(view, at, world, windowTokens, (row, query) => {
    if (query === 0) rows = new Float32Array(groupSize * row.length);
    rows.set(row, query * row.length);
    if (query === groupSize - 1) visit(rows, row.length);
  });
};

/** Column sums of prompt attention, and how many queries they are over. */
export interface PromptColumns {
  /** Row-major [groupSize, promptTokens]; zeros when the trace says nothing. */
  readonly sums: Float32Array;
  /** Queries of the prompt that saw each token, as far as they were summed: [promptTokens]. */
  readonly seen: Float32Array;
}

/** Column sums over the whole prompt where recorded, else over its last queries (see `promptColumnInputs`). */
export const promptColumns = (view: PromptView, at: number, world: World): PromptColumns => {
  const n = view.length;
  const sums = new Float32Array(world.groupSize * n);
  const seen = new Float32Array(n);
  if (view.promptMass(at) !== null) {
    for (let g = 0; g < world.groupSize; g++) {
      const mass = view.promptMass(at, g);
      if (mass !== null) sums.set(mass.subarray(0, n), g * n);
    }
    for (let i = 0; i < n; i++) seen[i] = n - i;
    return { sums, seen };
  }
  visitPromptRows(view, at, world, n, (row, query) => {
    const base = query * n;
    for (let i = 0; i < row.length; i++) sums[base + i] += row[i];
    if (query === 0) for (let i = 0; i < row.length; i++) seen[i]++;
  });
  return { sums, seen };
};

/** What `promptColumns` is computed from: "exact", or the fallback by name. */
export const promptColumnInputs = ({ fields }: World): string =>
  fields.has('prefillMass')
    ? 'exact'
    : fields.has('qprompt')
      ? 'attention of the last prompt queries instead of the whole prompt (trace has no prefillMass)'
      : 'no prompt attention (trace has neither prefillMass nor qprompt): scores start with decoding';

/** What `visitPromptRows` gives a policy that asks for more queries than a trace records, by name. */
export const promptRowInputs = ({ fields }: World, what: string): string =>
  fields.has('qprompt')
    ? `${what} from the last prompt queries that the trace records`
    : `no ${what} (trace has no qprompt)`;
