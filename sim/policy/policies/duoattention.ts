/**
 * DuoAttention: retrieval heads keep the whole context, streaming heads sinks and a window. arXiv 2410.10819;
 * mit-han-lab/duo-attention attn_patterns/MODEL/config.json (sinks 128, window 256), README (half of the KV heads of
 * grouped-query models stream, three quarters of multi-head ones), demo/run_duo_w8a8kv4.py (prompt chunks of 32,000).
 * Its learned scores are attn_patterns/MODEL/full_attention_heads.tsv: `heads=@full_attention_heads.tsv`.
 */

import * as z from 'zod';
import type { PolicyPlugin } from '../policy.ts';
import { streamingAtBudget, streamingFields, streamingHeads } from '../streaming-heads.ts';

const SINKS = 128;
const config = z.object(streamingFields(SINKS, 256, 0.5));

export const policy = {
  name: 'duoattention',
  title: 'DuoAttention',
  family: 'eviction',
  source: 'arXiv 2410.10819; mit-han-lab/duo-attention',
  requires: ['k', 'q'],
  prefers: ['qprompt'],
  config,
  atBudget: (tokens, world) => streamingAtBudget(tokens, world, SINKS),
  create: (c, world) => streamingHeads('duoattention', c, world),
} satisfies PolicyPlugin<typeof config>;
