/**
 * A policy that evicts once, by a vote over the prompt: SnapKV's (arXiv 2404.14469), of which others change who votes,
 * how many tokens each layer or head keeps, or what is kept without a vote.
 */
import { type Policy, policyDefaults, type World } from './policy.ts';
import { compactWork, copiesOf, evictPrompt, type PromptEviction, possibleVote } from './prompt-eviction.ts';
import { windowInputs, windowVotes, windowWork } from './votes.ts';

type Rule = Pick<PromptEviction, 'votes' | 'budgets'>;

export interface PromptVote extends Omit<PromptEviction, keyof Rule> {
  /** Prompt tokens kept per KV head, sinks and recent ones included. */
  readonly budgetTokens: number;
  /** Queries that vote: the prompt's last ones, unless `votes` says otherwise. */
  readonly voters: number;
}

/** `ruleOf`: how a layer votes, or spreads its tokens, where that isn't the window's vote and the same for all rows. */
export const votePolicy = (
  world: World,
  { budgetTokens, voters, ...c }: PromptVote,
  ruleOf: (layer: number) => Partial<Rule> = () => ({}),
): Policy => {
  const group = possibleVote(c.group, world);
  const copies = copiesOf(group, world);
  const elected = budgetTokens - c.sinkTokens - c.recentTokens;
  return {
    ...policyDefaults,
    replicated: group === 'per-query',
    inputs: windowInputs(world),
    prefillWork: [windowWork(world, voters, copies), compactWork(world, budgetTokens, copies)],
    layer: (layer) =>
      evictPrompt(world, {
        votes: (view, head) => windowVotes(view, head, voters, world),
        budgets: (rows) => rows.map(() => elected),
        ...ruleOf(layer),
        ...c,
        group,
      }),
  };
};
