/**
 * Scores of policies that predict what the answer will attend to with modules trained for it (Judge Q, LookaheadKV) or
 * with a second reading of the prompt (KVzip). The modules run in no replay: a trace that recorded their scores gives
 * the exact choice; otherwise prompt queries bound it from below, and the answer's own queries, which no system has,
 * from above.
 */
import * as z from 'zod';
import { exp } from '../engine/math.ts';
import type { Random } from '../engine/random.ts';
import { SimError } from '../error.ts';
import type { PromptView, World } from './policy.ts';
import { futureVoters, promptVoters, sameVote, votesOf, windowInputs, windowVotes } from './votes.ts';

export type ScoreSource = 'trace' | 'window' | 'oracle';

/** Fields of the configuration of all that score so. */
export const answerFields = {
  score: z
    .enum(['auto', 'trace', 'window', 'oracle'])
    .default('auto')
    .describe(
      "scores recorded in the trace (utility), votes of the last prompt queries, or of the answer's own queries (reads the future); auto = trace, else window",
    ),
  oracleQueries: z
    .int()
    .min(1)
    .default(64)
    .describe('queries of the answer that vote with score=oracle, evenly spaced over the run'),
};

/** What `score` comes to for a trace. Throws SimError when it asks for scores that the trace lacks. */
export const scoreSource = (policy: string, score: ScoreSource | 'auto', { fields }: World): ScoreSource => {
  if (score === 'trace' && !fields.has('utility')) {
    throw new SimError(
      'not-supported',
      `policy ${policy}, parameter score: trace needs the field utility, which the trace lacks; window and oracle do not`,
    );
  }
  if (score === 'auto') return fields.has('utility') ? 'trace' : 'window';
  return score;
};

/** The name of a score's source for the result's `inputs`; `exactly` = what the trained module would have given. */
export const answerInputs = (source: ScoreSource, exactly: string, world: World): string => {
  if (source === 'trace') return 'exact';
  if (source === 'oracle') return `oracle: attention of the answer's own queries instead of ${exactly}`;
  const votes = world.fields.has('qprompt') ? 'votes of the last prompt queries' : windowInputs(world);
  return `${votes} instead of ${exactly}`;
};

export interface AnswerVotes {
  readonly source: ScoreSource;
  /** Prompt queries that vote with `window`, and queries of the answer with `oracle`. */
  readonly windowTokens: number;
  readonly oracleQueries: number;
  /** How rows of several voters become one. */
  readonly over: 'mean' | 'max';
}

/** Scores by query head of a KV head's prompt tokens: row-major [groupSize, length]. */
export const answerVotes = (
  view: PromptView,
  head: number,
  world: World,
  { source, windowTokens, oracleQueries, over }: AnswerVotes,
): Float32Array => {
  const n = view.length;
  if (source === 'trace') {
    const scores = view.learnedScores('utility', head);
    if (scores === null || scores.length < n) {
      const found = scores === null ? 'none' : String(scores.length);
      throw new SimError('invalid-input', `utility.${view.layer}: expected ${n} scores, found ${found}`);
    }
    return sameVote(scores, n, world.groupSize);
  }
  const future = source === 'oracle' ? view.futureQueries(head) : null;
  const voters =
    future === null
      ? promptVoters(view, head, windowTokens, world)
      : futureVoters(view, future, oracleQueries, world);
  if (voters === null) return windowVotes(view, head, windowTokens, world);
  return votesOf(voters, view.heads[head], n, world, over);
};

/** Scores times e^(deviation · z) with z normal, in place: a prediction that errs by so much on a logarithmic scale. */
export const addNoise = (scores: Float32Array, deviation: number, random: Random): Float32Array => {
  if (deviation > 0) for (let i = 0; i < scores.length; i++) scores[i] *= exp(deviation * random.normal());
  return scores;
};
