/**
 * KVQuant: non-uniform levels, keys per channel before rotary embedding, values per token, 1 % outliers kept sparse, the
 * first tokens raw. arXiv 2401.18079; SqueezeAILab/KVQuant (deployment: 4 bits, sparsity threshold 0.99, first_few_fp16
 * 5). Its tables are calibrated offline on other text; here on the first tokens of the prompt itself.
 */
import * as z from 'zod';
import { withScales } from '../codec.ts';
import { codeBeforeRope, codeBehindTail } from '../coded-tail.ts';
import { LEARN_TOKENS } from '../learned-tables.ts';
import { nuqCodec } from '../nuq-codec.ts';
import { type Policy, type PolicyPlugin, policyDefaults } from '../policy.ts';

const config = z.object({
  bits: z.int().min(2).max(8).default(4).describe('bits of a level; published: 2, 3 and 4'),
  outlierShare: z
    .number()
    .min(0)
    .max(0.2)
    .default(0.01)
    .describe('share of elements kept in half precision, 4 bytes each'),
  sinkTokens: z.int().min(0).default(5).describe('first tokens that stay raw'),
  residualTokens: z
    .int()
    .min(0)
    .default(0)
    .describe('most recent tokens that stay raw; the authors keep none'),
  calibrationTokens: z
    .int()
    .min(16)
    .default(LEARN_TOKENS)
    .describe('first prompt tokens that levels, key ranges and outlier bounds are learned from'),
  preRope: z.boolean().default(true).describe('code keys as they were before rotary embedding'),
});

const CALIBRATED = 'tables calibrated on the prompt itself, all weights 1';

export const policy = {
  name: 'kvquant',
  title: 'KVQuant',
  family: 'compression',
  source: 'arXiv 2401.18079; SqueezeAILab/KVQuant',
  requires: ['k', 'q'],
  prefers: ['v'],
  config,
  create: (c, world): Policy => {
    const plain = nuqCodec({ ...c, name: `nuq${c.bits}` });
    const rope = c.preRope ? world.rope : null;
    const codec = withScales(rope ? codeBeforeRope(plain, rope) : plain, 1);
    const tableBytes = plain.tableBytes?.(world.headDim) ?? 0;
    const tail = { ...c, blockTokens: 1, promptBlockTokens: Infinity };
    return {
      ...policyDefaults,
      codecs: [codec],
      inputs:
        c.preRope && !rope
          ? `keys after rotary embedding (rotation not recorded); ${CALIBRATED}`
          : CALIBRATED,
      layer: () => codeBehindTail(tail, tableBytes),
    };
  },
} satisfies PolicyPlugin<typeof config>;
