/**
 * Votes: what some queries would attend to, as a score per prompt token. Softmax rows of the voters over all keys that
 * they see, combined over the voters, pooled along positions, reduced over a query group: SnapKV's observation window
 * (arXiv 2404.14469; FasterDecoding/SnapKV snapkv_utils.py), and the same with other voters.
 */
import { logitsInto, softmaxInPlace } from '../quality/exact-attention.ts';
import type { HeadRows, PromptView, WindowQueries, Work, World } from './policy.ts';
import { reduceRows } from './ranking.ts';

/** Entries of the logits that votes are computed from: 16 MiB. */
const VOTE_FLOATS = 2 ** 22;

/** Queries that vote: row-major [positions.length, groupSize, headDim], each with the position that it stands at. */
export interface Voters {
  readonly q: Float32Array;
  readonly positions: readonly number[];
}

/** The last `tokens` queries of the prompt that were recorded; null when none were. */
export const promptVoters = (
  view: PromptView,
  head: number,
  tokens: number,
  { groupSize, headDim }: World,
): Voters | null => {
  const window = view.promptQueries(head);
  if (window === null) return null;
  const count = Math.min(tokens, window.windowTokens);
  const q = window.q.subarray((window.windowTokens - count) * groupSize * headDim);
  return { q, positions: Array.from({ length: count }, (_, i) => view.length - count + i) };
};

/** At most `count` queries yet to be generated, evenly spaced over the run. Only an oracle has them. */
export const futureVoters = (
  view: PromptView,
  future: WindowQueries,
  count: number,
  { groupSize, headDim }: World,
): Voters => {
  const size = groupSize * headDim;
  const kept = Math.min(count, future.windowTokens);
  const q = new Float32Array(kept * size);
  const positions = Array.from({ length: kept }, (_, i) => {
    const step = Math.floor((i * future.windowTokens) / kept);
    q.set(future.q.subarray(step * size, (step + 1) * size), i * size);
    return view.length + step;
  });
  return { q, positions };
};

/**
 * Calls `visit` with the softmax row of every voter and query head, in order: `row[i]` is the attention to token i, of
 * all keys up to the voter's own position. The row is reused.
 */
export const visitVoters = (
  { q, positions }: Voters,
  { keys }: HeadRows,
  { groupSize, headDim }: World,
  visit: (row: Float32Array, query: number) => void,
): void => {
  const voters = positions.length;
  if (voters === 0) return;
  const stride = positions[voters - 1] + 1;
  // As many voters at a time as fit some memory: one pass over the keys serves them all.
  const together = Math.max(1, Math.min(voters, Math.floor(VOTE_FLOATS / (groupSize * stride))));
  const logits = new Float32Array(together * groupSize * stride);
  for (let first = 0; first < voters; first += together) {
    const rows = Math.min(together, voters - first) * groupSize;
    const queries = q.subarray(first * groupSize * headDim, first * groupSize * headDim + rows * headDim);
    logitsInto(queries, rows, keys, headDim, stride, logits, stride);
    for (let i = 0; i < rows; i++) {
      const length = positions[first + Math.floor(i / groupSize)] + 1;
      const row = logits.subarray(i * stride, i * stride + length);
      softmaxInPlace(row, length);
      visit(row, i % groupSize);
    }
  }
};

/**
 * Attention of the voters to tokens 0 .. n-1, mean or largest over the voters: row-major [groupSize, n]. Each voter sees
 * all keys up to its own position, also those past n, so a row sums to the mass that falls on the first n.
 */
export const votesOf = (
  voters: Voters,
  head: HeadRows,
  n: number,
  world: World,
  over: 'mean' | 'max',
): Float32Array => {
  const votes = new Float32Array(world.groupSize * n);
  const count = voters.positions.length;
  visitVoters(voters, head, world, (row, query) => {
    const length = Math.min(n, row.length);
    const base = query * n;
    if (over === 'mean') for (let i = 0; i < length; i++) votes[base + i] += row[i] / count;
    else for (let i = 0; i < length; i++) if (row[i] > votes[base + i]) votes[base + i] = row[i];
  });
  return votes;
};

/** One score per token as the vote of every query head of the group: row-major [groupSize, n]. */
export const sameVote = (scores: Float32Array, n: number, groupSize: number): Float32Array => {
  const votes = new Float32Array(groupSize * n);
  for (let g = 0; g < groupSize; g++) votes.set(scores.subarray(0, n), g * n);
  return votes;
};

/** Votes of the prompt's last `tokens` queries, or of the best that the trace has instead (`windowInputs` says what). */
export const windowVotes = (view: PromptView, head: number, tokens: number, world: World): Float32Array => {
  const n = view.length;
  const voters = promptVoters(view, head, tokens, world);
  if (voters !== null) return votesOf(voters, view.heads[head], n, world, 'mean');
  const recency = (): Float32Array => Float32Array.from({ length: n }, (_, i) => (i + 1) / n);
  return sameVote(view.promptMass(head) ?? recency(), n, world.groupSize);
};

/** What `windowVotes` takes for the window's queries. */
export const windowInputs = ({ fields }: World): string => {
  if (fields.has('qprompt')) return 'exact';
  return fields.has('prefillMass')
    ? 'column sums of prefill attention instead of the window queries'
    : 'recent tokens only (trace has neither prompt queries nor prefill mass)';
};

/**
 * The work of voting, per prompt token: one product of the keys with all voters, its float32 rows written and read
 * back for softmax, mean, pooling and top-k, as eager code does. `copies` of each key are read where KV is replicated.
 */
export const windowWork = (
  { kBytesPerToken, headDim, groupSize }: World,
  voters: number,
  copies = 1,
): Work => ({
  index: 'votes',
  readBytes: { hbm: copies * kBytesPerToken + 4 * voters * groupSize },
  writeBytes: { hbm: 4 * voters * groupSize },
  flops: 0,
  matrixFlops: 2 * voters * headDim * groupSize,
  kernels: 5,
});

/** Average (zeros beyond the ends) or maximum over `kernel` positions around each of the first n. */
export const pool = (
  votes: Float32Array,
  n: number,
  kernel: number,
  pooling: 'avg' | 'max',
): Float32Array => {
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

/** One vote of a group, from row-major [groupSize, n]. A sum ranks as the mean does. */
export const reduceGroup = (
  votes: Float32Array,
  groupSize: number,
  n: number,
  how: 'mean' | 'max',
): Float32Array => {
  const out = new Float32Array(n);
  reduceRows(votes, groupSize, n, n, how, out);
  return out;
};
