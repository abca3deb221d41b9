/**
 * `budget(p)`: one policy, its tokens shared out over layers; from code, over layers and heads. Any policy that takes a
 * token budget will do. The pyramid is PyramidKV's (arXiv 2406.02069; Zefan-Cai/KVCache-Factory pyramidkv_utils.py):
 * falling in equal steps from 2B - B/β at the first layer to B/β at the last, B on average.
 */
import * as z from 'zod';
import { SimError } from '../../error.ts';
import type { Policy, World } from '../policy.ts';
import { type Combinator, type Member, memberOf, type Part } from './combinator.ts';
import { sharesOf, splitPolicy } from './per-head.ts';

/** Fewest tokens that a policy can be given. */
const LEAST_TOKENS = 16;

/** One member for each budget that occurs; `allocate` gives a KV head's tokens. */
export const budgetPolicy = (
  { name, plugin, config }: Part,
  allocate: (layer: number, kvHead: number) => number,
  world: World,
): Policy => {
  if (plugin.atBudget === undefined) {
    throw new SimError('invalid-input', `budget(${name}): ${name} takes no token budget`);
  }
  const tokens: number[] = [];
  const classes = Array.from({ length: world.layers }, (_layer, layer) =>
    Array.from({ length: world.kvHeads }, (_head, kvHead) => {
      const wanted = Math.max(LEAST_TOKENS, Math.round(allocate(layer, kvHead)));
      if (!tokens.includes(wanted)) tokens.push(wanted);
      return tokens.indexOf(wanted);
    }),
  );
  const classOf = (layer: number, kvHead: number): number => classes[layer][kvHead];
  const shares = sharesOf(tokens.length, classOf, world);
  const memberAt = (budget: number, share: number): Member =>
    memberOf({ name, plugin, config: { ...config, ...plugin.atBudget?.(budget, world) } }, world, share);
  // Block sizes may follow the budget, but a run has one set of stored forms and one way over the link: the mean's.
  const mean = tokens.reduce((sum, budget, i) => sum + budget * shares[i], 0);
  const { codecs, transfer } = memberAt(Math.round(mean), 1).policy;
  const members = tokens.map((budget, i) => {
    const member = memberAt(budget, shares[i]);
    return { ...member, policy: { ...member.policy, codecs, transfer } };
  });
  return splitPolicy(members, classOf);
};

const config = z.object({
  tokens: z.int().min(LEAST_TOKENS).default(2048).describe('tokens a KV head, mean over layers'),
  shape: z.enum(['flat', 'pyramid']).default('pyramid').describe('how layers share them'),
  beta: z.number().min(1).default(20).describe('pyramid: the last layer has tokens / beta'),
});

export const combinator = {
  name: 'budget',
  title: 'one policy, its tokens shared out over layers',
  parts: [1, 1],
  config,
  create([part], { tokens, shape, beta }, world) {
    const last = tokens / beta;
    const fall = world.layers > 1 ? (2 * (tokens - last)) / (world.layers - 1) : 0;
    return budgetPolicy(
      part,
      (layer) => (shape === 'flat' || world.layers === 1 ? tokens : 2 * tokens - last - layer * fall),
      world,
    );
  },
} satisfies Combinator<typeof config>;
