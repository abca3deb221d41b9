/**
 * `per-head(a,b)`: the named KV heads of every layer take policy a, the others b; from code, any class per layer and
 * head. Head classes as DuoAttention (arXiv 2410.10819) has retrieval and streaming heads, and FastGen four kinds.
 */
import * as z from 'zod';
import { SimError } from '../../error.ts';
import type { Policy, World } from '../policy.ts';
import { type Combinator, combined, hooksIn, type Member, memberOf } from './combinator.ts';
import { somePrompt, splitHooks } from './some-heads.ts';

/** Which member a KV head of a layer takes. */
export type HeadClass = (layer: number, kvHead: number) => number;

/** Shares of all heads of the model that each of `classes` classes has. */
export const sharesOf = (classes: number, classOf: HeadClass, world: World): readonly number[] => {
  const counts = new Array<number>(classes).fill(0);
  for (let layer = 0; layer < world.layers; layer++)
    for (let head = 0; head < world.kvHeads; head++) counts[classOf(layer, head)]++;
  return counts.map((count) => count / (world.layers * world.kvHeads));
};

/** One policy whose heads follow the members. */
export const splitPolicy = (members: readonly Member[], classOf: HeadClass): Policy => ({
  ...combined(members, (member, view) => {
    const { heads, layer } = view;
    const at = heads.flatMap(({ kvHead }, head) =>
      members[classOf(layer, kvHead)] === member ? [head] : [],
    );
    return at.length === 0 ? null : somePrompt(view, at);
  }),
  layer: (layer) => splitHooks(hooksIn(members, layer), (kvHead) => classOf(layer, kvHead)),
});

const config = z.object({
  heads: z
    .array(z.int().min(0))
    .optional()
    .describe('KV heads of every layer that take the first policy; default: the lower half'),
});

export const combinator = {
  name: 'per-head',
  title: 'some KV heads take the first policy, the others the second',
  parts: [2, 2],
  config,
  create(parts, { heads }, world) {
    const beyond = heads?.find((head) => head >= world.kvHeads);
    if (beyond !== undefined) {
      const message = `policy per-head: heads: expected KV heads below ${world.kvHeads}, got ${beyond}`;
      throw new SimError('invalid-input', message);
    }
    const first = new Set(heads ?? Array.from({ length: Math.ceil(world.kvHeads / 2) }, (_, head) => head));
    const classOf: HeadClass = (_, kvHead) => (first.has(kvHead) ? 0 : 1);
    const shares = sharesOf(2, classOf, world);
    return splitPolicy(
      parts.map((part, i) => memberOf(part, world, shares[i])),
      classOf,
    );
  },
} satisfies Combinator<typeof config>;
