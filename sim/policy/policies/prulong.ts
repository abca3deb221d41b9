/**
 * PruLong: DuoAttention's caches, with head classes learned end to end by next-token loss under a target sparsity.
 * arXiv 2506.17121; princeton-pli/PruLong prulong/run_scripts/prulong_masksonly.sh (sinks 128, window 1024, sparsity
 * 0.7). Its masks are what prulong/save_prulong_masks.py writes: `heads=@masks.tsv;streamingRatio=null`.
 */
import * as z from 'zod';
import type { PolicyPlugin } from '../policy.ts';
import { streamingAtBudget, streamingFields, streamingHeads } from '../streaming-heads.ts';

const SINKS = 128;
const config = z.object(streamingFields(SINKS, 1024, 0.7));

export const policy = {
  name: 'prulong',
  title: 'PruLong',
  family: 'eviction',
  source: 'arXiv 2506.17121; princeton-pli/PruLong',
  requires: ['k', 'q'],
  prefers: ['qprompt'],
  config,
  atBudget: (tokens, world) => streamingAtBudget(tokens, world, SINKS),
  create: (c, world) => streamingHeads('prulong', c, world),
} satisfies PolicyPlugin<typeof config>;
