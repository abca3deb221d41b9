/**
 * KIVI: keys quantised per channel, `residualTokens` at a time; values per token, one by one once as many follow them.
 * What waits is raw. arXiv 2402.02750; jy-yuan/KIVI models/llama_kivi.py (2 bits, group 32, residual length 128).
 */
import * as z from 'zod';
import { type Policy, type PolicyPlugin, policyDefaults } from '../policy.ts';
import { kiviInTurn } from '../uniform-codec.ts';

const bits = z.int().min(2).max(8).default(2);

const config = z
  .object({
    kBits: bits.describe('bits of a key element; published: 2 and 4'),
    vBits: bits.describe('bits of a value element; published: 2 and 4'),
    groupTokens: z.int().min(1).default(32).describe('elements that share a scale and a minimum'),
    residualTokens: z
      .int()
      .min(1)
      .default(128)
      .describe('tokens of keys quantised together, and of values that stay raw'),
  })
  .refine((c) => c.residualTokens % c.groupTokens === 0, {
    path: ['residualTokens'],
    error: 'expected a multiple of groupTokens, because keys are quantised in whole groups',
  });

/** Stored forms, in the order of the policy's codecs. */
const KEYS_CODED = 1;
const BOTH_CODED = 2;

export const policy = {
  name: 'kivi',
  title: 'KIVI',
  family: 'compression',
  source: 'arXiv 2402.02750; jy-yuan/KIVI',
  requires: ['k', 'q'],
  prefers: ['v'],
  config,
  create: ({ kBits, vBits, groupTokens: group, residualTokens }, world): Policy => ({
    ...policyDefaults,
    codecs: kiviInTurn({ kBits, vBits, group }, world),
    inputs: world.fields.has('v') ? 'exact' : 'no values: error of keys and values not measured',
    layer: () => {
      let keysCoded = 0;
      let valuesCoded = 0;
      return {
        onPrefill({ heads, length }) {
          keysCoded = length - (length % residualTokens);
          valuesCoded = Math.max(0, length - residualTokens);
          for (const { cache } of heads) {
            if (keysCoded > 0) cache.recode(0, keysCoded, KEYS_CODED);
            if (valuesCoded > 0) cache.recode(0, valuesCoded, BOTH_CODED);
          }
        },
        onAppend({ heads, length }) {
          // A step attends to its own token raw and quantises afterwards: what the step before left is due now.
          const before = length - 1;
          const keysEnd = before - (before % residualTokens);
          const valuesEnd = Math.max(0, before - residualTokens);
          for (const { cache } of heads) {
            if (keysEnd > keysCoded) cache.recode(keysCoded, keysEnd, KEYS_CODED);
            if (valuesEnd > valuesCoded) cache.recode(valuesCoded, valuesEnd, BOTH_CODED);
          }
          keysCoded = keysEnd;
          valuesCoded = valuesEnd;
        },
      };
    },
  }),
} satisfies PolicyPlugin<typeof config>;
