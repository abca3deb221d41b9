/**
 * The file that `kvtier new policy` writes: a whole policy in forty lines, with a comment where a newcomer would ask.
 * docs/policies.md shows the same text.
 */

const BODY = `import { POLICY_IMPORT } from 'kvtier';
import * as z from 'zod';

// Each field is a parameter: its type, range, default and help on the command line come from here.
const config = z.object({
  stride: z.int().min(2).default(2).describe('of the old tokens, one in so many is kept'),
  recentTokens: z.int().min(1).default(256).describe('most recent tokens, all kept'),
});

export const policy = {
  name: 'NAME',
  title: 'One old token in a few, and the recent ones',
  family: 'eviction', // or baseline, admission, selection, compression, tiering
  source: 'an example',
  requires: ['k', 'q'], // fields that it cannot do without; what it merely likes goes into \`prefers\`
  config,
  // Optional: parameters at which a head attends to at most so many tokens, for comparisons at equal budget.
  atBudget: (tokens, world) => ({
    recentTokens: Math.ceil(tokens / 2),
    stride: Math.max(2, Math.ceil(world.maxTokens / Math.floor(tokens / 2 - 1))),
  }),
  create: ({ stride, recentTokens }) => {
    const drop = (cache, from, to) => {
      for (let token = Math.max(0, from); token < to; token++) if (token % stride !== 0) cache.drop(token, token + 1);
    };
    return {
      ...policyDefaults, // no codecs, everything in HBM, attention over all that is live
      layer: () => ({
        // The prompt is in the cache of each KV head: drop, move to DRAM, code, build an index.
        onPrefill: (view) => view.heads.forEach(({ cache }) => drop(cache, 0, view.length - recentTokens)),
        // One token was written to each head; the oldest of the recent ones is recent no more.
        onAppend(view) {
          const oldest = view.length - recentTokens - 1;
          for (const { cache } of view.heads) drop(cache, oldest, oldest + 1);
        },
        // select(view, picks) would choose what a step attends to; observe(view, probabilities) sees what it gave.
      }),
    };
  },
}`;

const opening = (file: string, name: string): string => `/**
 * ${name}: say here what it keeps and reads, and the paper it is from. Run it beside others:
 *   kvtier compare --policies full,snapkv,./${file} --set ${name}.recentTokens=512
 */
`;

/** The text of a new policy's file; `file` is its name with extension, which says the language. */
export const policyTemplate = (file: string, name: string): string => {
  const typed = /\.[cm]?ts$/.test(file);
  const body = BODY.replace('NAME', name)
    .replace('POLICY_IMPORT', typed ? 'type HeadView, type PolicyPlugin, policyDefaults' : 'policyDefaults')
    .replace(
      '(cache, from, to)',
      typed ? "(cache: HeadView['cache'], from: number, to: number)" : '(cache, from, to)',
    );
  return `${opening(file, name)}${body}${typed ? ' satisfies PolicyPlugin<typeof config>' : ''};\n`;
};
