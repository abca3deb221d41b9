/**
 * Scores by which a write gate may be stood in for, and the best of them that a trace has. Nothing that a trained gate
 * would have learned is known of them but this: that the first tokens are attended to whatever the text, so that a gate
 * which lets them go loses the model (arXiv 2309.17453); every score but a recorded gate's admits them first.
 */
import { exp } from '../engine/math.ts';
import type { Random } from '../engine/random.ts';
import { SimError } from '../error.ts';
import { ExpectedAttention } from './expected-attention.ts';
import type { PromptView, World } from './policy.ts';
import { futureVoters, reduceGroup, votesOf } from './votes.ts';

/**
 * gate: the trained module's own column. utility: a recorded score. expected: by the prompt's last queries. oracle: by
 * queries yet to come. random: uniform, as the authors' own speed measurements (random_sparsity).
 */
export const gateSources = ['gate', 'utility', 'expected', 'oracle', 'random'] as const;
export type GateSource = (typeof gateSources)[number];

/** The best source that is no trained gate and does not look into the future. */
export const bestScores = ({ fields }: World): GateSource => {
  if (fields.has('utility')) return 'utility';
  return fields.has('qprompt') ? 'expected' : 'random';
};

/** What a source needs of a trace; the others need nothing. */
const NEEDED = { gate: 'gate', utility: 'utility', expected: 'qprompt' } as const;

/** What `gate` comes to for a trace. Throws SimError when it asks for a field that the trace lacks. */
export const gateSource = (policy: string, gate: GateSource | 'auto', world: World): GateSource => {
  if (gate === 'auto') return world.fields.has('gate') ? 'gate' : bestScores(world);
  if (gate === 'oracle' || gate === 'random') return gate;
  const field = NEEDED[gate];
  if (!world.fields.has(field))
    throw new SimError(
      'not-supported',
      `policy ${policy}, parameter gate: ${gate} needs the field ${field}, which the trace lacks; auto, oracle and random do not`,
    );
  return gate;
};

/** What a result says of the source; `rates` names where the admission rates are from. */
export const gateInputs = (source: GateSource, rates: string): string => {
  switch (source) {
    case 'gate':
      return 'exact';
    case 'utility':
      return `recorded utility instead of a gate, at ${rates}`;
    case 'expected':
      return `expected attention of the prompt's last queries instead of a gate, at ${rates}`;
    case 'oracle':
      return `oracle: attention of the generated queries instead of a gate, at ${rates}`;
    case 'random':
      return `random admission instead of a gate, at ${rates}`;
    default:
      return source satisfies never;
  }
};

/** Future queries that an oracle asks at most, evenly spaced. */
const ORACLE_VOTERS = 64;

/** Scores of one KV head's tokens; they rank the tokens of the head. */
export interface TokenScores {
  /** Of all tokens that the source knows at the prompt's end: those of the prompt at least. */
  readonly scores: Float32Array;
  /** What a score says on a scale that all heads have in common; not negative. */
  share(score: number): number;
  /** Of a token written later. */
  later(token: number): number;
}

const same = (score: number): number => score;

const expectedScores = (view: PromptView, at: number, world: World): TokenScores | null => {
  const window = view.promptQueries(at);
  if (window === null) return null;
  const { keys } = view.heads[at];
  const expected = new ExpectedAttention(window, keys, world);
  const one = new Float32Array(1);
  const scores = new Float32Array(view.length);
  expected.scoreInto(keys, 0, view.length, scores);
  return {
    scores,
    share: exp,
    later(token) {
      expected.scoreInto(keys, token, token + 1, one);
      return one[0];
    },
  };
};

/** Mean attention of the queries to come, largest over the group, of all tokens of the run. */
const oracleScores = (view: PromptView, at: number, world: World): Float32Array | null => {
  const future = view.futureQueries(at);
  if (future === null) return null;
  const voters = futureVoters(view, future, ORACLE_VOTERS, world);
  const votes = votesOf(voters, view.heads[at], world.maxTokens, world, 'mean');
  return reduceGroup(votes, world.groupSize, world.maxTokens, 'max');
};

/** The scores of one KV head when its prompt has been read; `random` serves the source of that name. */
export const tokenScores = (
  view: PromptView,
  at: number,
  source: GateSource,
  random: Random | null,
  world: World,
): TokenScores => {
  if (source === 'random') {
    const next = (): number => random?.uniform() ?? 0;
    return { scores: new Float32Array(view.length).map(next), share: same, later: next };
  }
  if (source === 'expected') {
    const expected = expectedScores(view, at, world);
    if (expected !== null) return expected;
  }
  const known = source === 'oracle' ? oracleScores(view, at, world) : null;
  const scores = known ?? (source === 'gate' || source === 'utility' ? view.learnedScores(source, at) : null);
  if (scores === null || scores.length < view.length)
    throw new SimError(
      'invalid-input',
      `${source}.${view.layer}: expected ${view.length} scores, found ${scores?.length ?? 'none'}`,
    );
  // A token past the end of a recorded column is admitted: nothing speaks against it.
  return { scores, share: same, later: (token) => scores[token] ?? Infinity };
};
