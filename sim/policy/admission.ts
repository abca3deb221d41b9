/**
 * Which tokens a write gate admits: a score per token, from the best source that the trace has, and a threshold. Learned
 * gates have their own; other scores take the one at which a head admits the share that its trained gate is known to admit.
 */

import { layersStoodFor } from '../trace/represent.ts';
import { ExpectedAttention } from './expected-attention.ts';
import type { PrefillView, PromptView, World } from './policy.ts';
import { Ranking } from './ranking.ts';
import { futureVoters, reduceGroup, votesOf } from './votes.ts';

/**
 * gate: the trained module's own column. utility: a recorded score. expected: by the prompt's last queries. oracle: by
 * queries yet to come. random: uniform, as the authors' own speed measurements (random_sparsity).
 */
export const gateSources = ['gate', 'utility', 'expected', 'oracle', 'random'] as const;
export type GateSource = (typeof gateSources)[number];

/** The best source without looking into the future. */
export const bestSource = ({ fields }: World): GateSource => {
  if (fields.has('gate')) return 'gate';
  if (fields.has('utility')) return 'utility';
  return fields.has('qprompt') ? 'expected' : 'random';
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

export interface GateRequest {
  readonly source: GateSource;
  /** Of a learned gate: a token is admitted above it. */
  readonly threshold: number;
  /** Of the other sources: share of the prompt's tokens before the last `windowTokens` that this head admits. */
  readonly rate: number;
  readonly windowTokens: number;
}

/** The gate of one KV head. */
export interface HeadGate {
  /** 1 where the token is admitted; valid for tokens that were written. */
  readonly flags: Uint8Array;
  /** Decides on a token that was just written. */
  write(token: number): void;
}

/** Scores of all tokens that the source knows at the prompt's end, and of each one written later. */
interface TokenScores {
  readonly scores: Float32Array;
  later(token: number): number;
}

const scoresOf = (
  view: PrefillView,
  at: number,
  { source, windowTokens }: GateRequest,
  world: World,
): TokenScores => {
  const head = view.heads[at];
  const n = view.length;
  const scores = new Float32Array(n);
  if (source === 'random') {
    const next = (): number => head.random.uniform();
    for (let i = 0; i < n; i++) scores[i] = next();
    return { scores, later: next };
  }
  if (source === 'expected') {
    const window = view.promptQueries(at);
    if (window === null)
      return scoresOf(view, at, { source: 'random', windowTokens, threshold: 0, rate: 0 }, world);
    const expected = new ExpectedAttention(window, head.keys, world);
    expected.scoreInto(head.keys, 0, n, scores);
    const one = new Float32Array(1);
    const later = (token: number): number => {
      expected.scoreInto(head.keys, token, token + 1, one);
      return one[0];
    };
    return { scores, later };
  }
  const known = source === 'oracle' ? oracleScores(view, at, world) : view.learnedScores(source, at);
  // A token past the end of a recorded column is admitted: nothing speaks against it.
  return { scores: known ?? scores, later: (token) => known?.[token] ?? Infinity };
};

/** Mean attention of the queries to come, largest over the group, of all tokens of the run. */
const oracleScores = (view: PrefillView, at: number, world: World): Float32Array | null => {
  const future = view.futureQueries(at);
  if (future === null) return null;
  const voters = futureVoters(view, future, ORACLE_VOTERS, world);
  const votes = votesOf(voters, view.heads[at], world.maxTokens, world, 'mean');
  return reduceGroup(votes, world.groupSize, world.maxTokens, 'max');
};

/** Opens the gate of one head when its prompt has been read. */
export const openGate = (view: PrefillView, at: number, request: GateRequest, world: World): HeadGate => {
  const flags = new Uint8Array(world.maxTokens);
  const { scores, later } = scoresOf(view, at, request, world);
  const n = view.length;
  let least = request.threshold;
  if (request.source !== 'gate') {
    // Short prompts have nothing before the window: the share is then taken of all of it.
    const eligible = n > request.windowTokens ? n - request.windowTokens : n;
    const k = Math.floor(request.rate * eligible + 1e-9);
    const ranking = new Ranking(eligible);
    const count = ranking.best(scores, 0, eligible, k);
    least = Infinity;
    for (let i = 0; i < count; i++) {
      flags[ranking.positions[i]] = 1;
      least = Math.min(least, scores[ranking.positions[i]]);
    }
    for (let token = eligible; token < n; token++) flags[token] = scores[token] >= least ? 1 : 0;
  } else for (let token = 0; token < n; token++) flags[token] = scores[token] > least ? 1 : 0;
  const isGate = request.source === 'gate';
  return {
    flags,
    write(token) {
      const score = later(token);
      flags[token] = (isGate ? score > least : score >= least) ? 1 : 0;
    },
  };
};

/**
 * Keys that a prompt query attends to on average under the gate, tiles of `blockTokens` queries and keys included: the
 * blocks of the window up to the diagonal, and the admitted columns before them (EMCLab-Sinica/WG-KV
 * generate_sparse_indices).
 */
export const attendedByPrompt = (
  flags: Uint8Array,
  n: number,
  windowTokens: number,
  blockTokens: number,
): number => {
  let columns = 0;
  let seen = 0;
  let total = 0;
  for (let start = 0; start < n; start += blockTokens) {
    const from = Math.max(0, start - windowTokens + 1);
    const to = Math.min(n, start + blockTokens);
    for (; seen < from; seen++) columns += flags[seen];
    const local = Math.min(to, Math.ceil((to - from) / blockTokens) * blockTokens);
    total += (to - start) * (local + columns);
  }
  return total / n;
};

/**
 * Mean global tokens of all heads when the prompt has been read, and their growth a step, before any layer is replayed:
 * counted in the survey where a gate is recorded, known from the rates where it is not.
 */
export const knownAdmission = (
  source: GateSource,
  threshold: number,
  windowTokens: number,
  rate: (layer: number, kvHead: number) => number,
  world: World,
) => {
  const before = Math.max(0, world.promptTokens - windowTokens);
  let rates = 0;
  let weights = 0;
  const survey = (view: PromptView): void => {
    const replayed = world.replayed?.layers;
    const weight = replayed ? layersStoodFor(world.layers, replayed)[replayed.indexOf(view.layer)] : 1;
    view.heads.forEach(({ kvHead }, at) => {
      const gate = source === 'gate' ? view.learnedScores('gate', at) : null;
      let share = rate(view.layer, kvHead);
      if (gate !== null) {
        let admitted = 0;
        for (let token = 0; token < before; token++) if (gate[token] > threshold) admitted++;
        share = before === 0 ? 1 : admitted / before;
      }
      rates += weight * share;
      weights += weight;
    });
  };
  const mean = () => {
    const share = weights === 0 ? 1 : rates / weights;
    return { startTokens: share * before, growthTokens: share };
  };
  return { survey, mean };
};
