/** Full attention with all KV in HBM: reads everything, keeps everything. The baseline of every comparison. */
import * as z from 'zod';
import { type Policy, type PolicyPlugin, policyDefaults } from '../policy.ts';

const config = z.object({});

export const policy = {
  name: 'full',
  title: 'Full attention, KV in HBM',
  family: 'baseline',
  source: 'FlashDecoding (split-KV) over a dense cache',
  requires: [],
  config,
  create: (): Policy => ({ ...policyDefaults, layer: () => ({}) }),
} satisfies PolicyPlugin<typeof config>;
