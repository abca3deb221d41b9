/**
 * SnapKV: the last W prompt queries vote once, their softmax rows are averaged and pooled along positions, and each
 * KV head keeps its best B - W prompt tokens plus the window; generated tokens are never evicted.
 * arXiv 2404.14469; FasterDecoding/SnapKV snapkv_utils.py (W 32, kernel 5, average pooling). The official port
 * replicates KV to query heads first (`group: per-query`, G times the bytes); kvpress averages the group (`mean`).
 */
import * as z from 'zod';
import { logitsInto, softmaxInPlace } from '../../quality/exact-attention.ts';
import { topKPositions } from '../../quality/top-k.ts';
import {
  type HeadView,
  type Policy,
  type PolicyPlugin,
  type PrefillView,
  policyDefaults,
  type World,
} from '../policy.ts';

const config = z.object({
  budgetTokens: z.int().min(1).default(2048).describe('prompt tokens kept per KV head, window included'),
  windowTokens: z.int().min(1).default(32).describe('observation window: last prompt tokens, always kept'),
  kernel: z.int().min(1).default(5).describe('width of the pooling along positions, odd'),
  pooling: z.enum(['avg', 'max']).default('avg').describe('pooling along positions'),
  group: z
    .enum(['mean', 'max', 'per-query'])
    .default('mean')
    .describe('vote of a query group; per-query replicates KV'),
});
type Config = z.infer<typeof config>;

/** Choices per query head are kept as 32-bit sets; wider groups vote together. */
const MAX_QUERIES = 32;

/** Entries of the logits that votes are computed from: 16 MiB. */
const VOTE_FLOATS = 2 ** 22;

/** Adds the softmax of one row of logits, over the number of rows. */
const addVotes = (row: Float32Array, rows: number, votes: Float32Array): void => {
  softmaxInPlace(row, row.length);
  for (let i = 0; i < row.length; i++) votes[i] += row[i] / rows;
};

/** Mean softmax row of the window's queries per query head: row-major [groupSize, promptTokens]. */
const windowVotes = (
  head: HeadView,
  view: PrefillView,
  at: number,
  world: World,
  windowTokens: number,
): Float32Array => {
  const { groupSize, headDim } = world;
  const n = view.length;
  const votes = new Float32Array(groupSize * n);
  const recorded = view.promptQueries(at);
  if (recorded === null) {
    const mass = view.promptMass(at);
    if (mass !== null) for (let g = 0; g < groupSize; g++) votes.set(mass.subarray(0, n), g * n);
    return votes;
  }
  const rows = Math.min(windowTokens, recorded.windowTokens);
  // As many window rows at a time as fit some memory: one pass over the keys serves them all.
  const together = Math.max(1, Math.min(rows, Math.floor(VOTE_FLOATS / (groupSize * n))));
  const logits = new Float32Array(together * groupSize * n);
  for (let first = recorded.windowTokens - rows; first < recorded.windowTokens; first += together) {
    const count = Math.min(together, recorded.windowTokens - first);
    const q = recorded.q.subarray(first * groupSize * headDim, (first + count) * groupSize * headDim);
    logitsInto(q, count * groupSize, head.keys, headDim, n, logits, n);
    for (let i = 0; i < count * groupSize; i++) {
      const length = n - (recorded.windowTokens - 1 - first - Math.floor(i / groupSize));
      addVotes(logits.subarray(i * n, i * n + length), rows, votes.subarray((i % groupSize) * n));
    }
  }
  return votes;
};

const pool = (votes: Float32Array, n: number, { kernel, pooling }: Config): Float32Array => {
  const pooled = new Float32Array(n);
  const half = kernel >> 1;
  for (let i = 0; i < n; i++) {
    let value = 0;
    for (let j = Math.max(0, i - half); j <= Math.min(n - 1, i + half); j++) {
      value = pooling === 'avg' ? value + votes[j] / kernel : Math.max(value, votes[j]);
    }
    pooled[i] = value;
  }
  return pooled;
};

const reduceGroup = (
  votes: Float32Array,
  groupSize: number,
  n: number,
  how: 'mean' | 'max',
): Float32Array => {
  const out = new Float32Array(n);
  for (let g = 0; g < groupSize; g++) {
    for (let i = 0; i < n; i++) {
      const v = votes[g * n + i];
      out[i] = how === 'mean' ? out[i] + v / groupSize : Math.max(out[i], v);
    }
  }
  return out;
};

/** How many of the group's query heads keep each prompt token (0 or 1 where the group decides together). */
const keepCounts = (votes: Float32Array, n: number, world: World, c: Config, chosenBy: Uint32Array): void => {
  const past = n - c.windowTokens;
  const k = c.budgetTokens - c.windowTokens;
  const positions = new Int32Array(past);
  const rows = c.group === 'per-query' ? world.groupSize : 1;
  for (let r = 0; r < rows; r++) {
    const row =
      c.group === 'per-query'
        ? votes.subarray(r * n, (r + 1) * n)
        : reduceGroup(votes, world.groupSize, n, c.group);
    const count = topKPositions(pool(row, past, c), past, k, positions);
    for (let i = 0; i < count; i++)
      chosenBy[positions[i]] |= c.group === 'per-query' ? (1 << r) >>> 0 : 0xffffffff;
  }
  chosenBy.fill(0xffffffff, past, n);
};

const bitsOf = (x: number): number => {
  let count = 0;
  for (let bits = x; bits !== 0; bits = (bits & (bits - 1)) >>> 0) count++;
  return count;
};

export const policy = {
  name: 'snapkv',
  title: 'SnapKV',
  family: 'eviction',
  source: 'arXiv 2404.14469; FasterDecoding/SnapKV',
  requires: ['k', 'q'],
  prefers: ['qprompt'],
  config,
  atBudget: (tokens) => ({ budgetTokens: tokens, windowTokens: Math.min(32, Math.floor(tokens / 4)) }),
  create: (given, world): Policy => {
    const perQuery = given.group === 'per-query' && world.groupSize > 1 && world.groupSize <= MAX_QUERIES;
    const c: Config = perQuery ? given : { ...given, group: given.group === 'max' ? 'max' : 'mean' };
    const window = c.windowTokens;
    return {
      ...policyDefaults,
      replicated: perQuery,
      inputs: world.fields.has('qprompt')
        ? 'exact'
        : world.fields.has('prefillMass')
          ? 'column sums of prefill attention instead of the window queries'
          : 'recent tokens only (trace has neither prompt queries nor prefill mass)',
      prefillWork: [
        {
          index: 'window-votes',
          readBytes: { hbm: world.kBytesPerToken },
          flops: 2 * window * world.headDim * world.groupSize,
          kernels: 3,
        },
      ],
      layer: () => {
        const chosen: Uint32Array[] = [];
        return {
          onPrefill(view) {
            if (view.length <= Math.max(c.budgetTokens, window)) return;
            view.heads.forEach((head, at) => {
              const chosenBy = new Uint32Array(view.length);
              keepCounts(windowVotes(head, view, at, world, window), view.length, world, c, chosenBy);
              chosen[at] = chosenBy;
              for (let token = 0; token < view.length; token++) {
                if (chosenBy[token] === 0) head.cache.drop(token, token + 1);
                else if (perQuery)
                  head.cache.setCopies(
                    token,
                    chosenBy[token] === 0xffffffff ? world.groupSize : bitsOf(chosenBy[token]),
                  );
              }
            });
          },
          select(view, picks) {
            if (!perQuery || chosen.length === 0) return;
            picks.forEach((pick, at) => {
              pick.none();
              for (let token = 0; token < chosen[at].length; token++) {
                for (let g = 0; g < world.groupSize; g++)
                  if ((chosen[at][token] >>> g) & 1) pick.take(token, token + 1, g);
              }
              for (let g = 0; g < world.groupSize; g++) pick.take(chosen[at].length, view.length, g);
            });
          },
        };
      },
    };
  },
} satisfies PolicyPlugin<typeof config>;
