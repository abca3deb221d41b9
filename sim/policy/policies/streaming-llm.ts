/**
 * StreamingLLM: keep the first `sinkTokens` (attention sinks) and the most recent `windowTokens`, forget the middle.
 * arXiv 2309.17453; defaults of mit-han-lab/streaming-llm (start 4, recent 512). The original renumbers positions
 * inside the cache; recorded keys carry their original positions, and the result says so.
 */
import * as z from 'zod';
import { type Policy, type PolicyPlugin, policyDefaults } from '../policy.ts';

const config = z.object({
  sinkTokens: z.int().min(0).default(4).describe('first tokens that are always kept'),
  windowTokens: z.int().min(1).default(512).describe('most recent tokens that are kept'),
});

export const policy = {
  name: 'streaming-llm',
  title: 'StreamingLLM',
  family: 'eviction',
  source: 'arXiv 2309.17453',
  requires: ['k', 'q'],
  prefers: ['kpre'],
  config,
  atBudget: (tokens) => ({ sinkTokens: 4, windowTokens: tokens - 4 }),
  create: ({ sinkTokens, windowTokens }): Policy => ({
    ...policyDefaults,
    inputs: 'original positions (no renumbering inside the cache)',
    layer: () => ({
      onPrefill(view) {
        for (const head of view.heads)
          head.cache.drop(sinkTokens, Math.max(sinkTokens, view.length - windowTokens));
      },
      onAppend(view) {
        const oldest = view.length - windowTokens - 1;
        if (oldest < sinkTokens) return;
        for (const head of view.heads) head.cache.drop(oldest, oldest + 1);
      },
    }),
  }),
} satisfies PolicyPlugin<typeof config>;
