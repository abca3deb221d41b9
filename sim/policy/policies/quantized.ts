/**
 * Any codec of the catalog, applied to everything but a raw tail: for comparing codecs beside each other with the same
 * bytes, times and errors as whole policies. Nothing is dropped and nothing leaves HBM.
 */
import * as z from 'zod';
import { SimError } from '../../error.ts';
import { type Codec, withScales } from '../codec.ts';
import { catalog } from '../codecs/catalog.generated.ts';
import { codeBeforeRope, codeBehindTail } from '../coded-tail.ts';
import { type Policy, type PolicyPlugin, policyDefaults } from '../policy.ts';

const codecs: Readonly<Record<string, Codec>> = catalog;

const config = z.object({
  codec: z.enum(Object.keys(codecs)).default('int4').describe('stored form of keys and values'),
  sinkTokens: z
    .int()
    .min(0)
    .default(4)
    .describe('first tokens that stay raw: attention sinks have rows unlike all others'),
  residualTokens: z.int().min(0).default(128).describe('most recent tokens that stay raw at least'),
  blockTokens: z.int().min(1).default(128).describe('tokens coded together when they leave the tail'),
  preRope: z.boolean().default(false).describe('code keys as they were before rotary embedding'),
});

export const policy = {
  name: 'quantized',
  title: 'Any codec behind a raw tail',
  family: 'compression',
  source: 'kvtier: a bench for codecs',
  requires: ['k', 'q'],
  prefers: ['v'],
  config,
  create: (c, world): Policy => {
    const { rope } = world;
    if (c.preRope && !rope) {
      throw new SimError(
        'not-supported',
        "policy quantized: preRope=true needs the rotation of the trace's keys, which it does not name; preRope=false codes them as recorded",
      );
    }
    const plain = codecs[c.codec];
    const codec = withScales(c.preRope && rope ? codeBeforeRope(plain, rope) : plain, c.blockTokens);
    // Refuses head dimensions that it cannot take, before anything runs.
    codec.kBytesPerToken(world.headDim);
    const tail = { ...c, promptBlockTokens: c.blockTokens };
    return {
      ...policyDefaults,
      codecs: [codec],
      inputs: world.fields.has('v') ? 'exact' : 'no values: error of keys and values not measured',
      layer: () => codeBehindTail(tail, codec.tableBytes?.(world.headDim) ?? 0),
    };
  },
} satisfies PolicyPlugin<typeof config>;
