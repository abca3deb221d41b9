/**
 * Which tokens a write gate admits: those above its threshold where a trained gate is recorded. Elsewhere a score stands in,
 * and each head admits its best tokens: as many as its trained gate is known to admit, or as one threshold over all
 * heads gives it, which is how one gate threshold tells heads apart (the untrained baseline of EMCLab-Sinica/WG-KV,
 * create_adaea_g_scores and utils/gather_adaea_stats, does so with expected attention and 4 sinks).
 */
import { layersStoodFor } from '../trace/represent.ts';
import { type GateSource, type TokenScores, tokenScores } from './admission-scores.ts';
import { modelBudgets } from './budgets.ts';
import type { PrefillView, PromptView, World } from './policy.ts';
import { Ranking } from './ranking.ts';

export interface GateRequest {
  readonly source: GateSource;
  /** Of a learned gate: a token is admitted above it. */
  readonly threshold: number;
  /** Of the other sources: share of the prompt's tokens before the last `windowTokens` that this head admits. */
  readonly rate: number;
  readonly windowTokens: number;
  /** Of the other sources: first tokens, which are admitted before all others. */
  readonly sinkTokens: number;
}

/** The gate of one KV head. */
export interface HeadGate {
  /** 1 where the token is admitted; valid for tokens that were written. */
  readonly flags: Uint8Array;
  /** Decides on a token that was just written. */
  write(token: number): void;
}

/** Prompt tokens that stand for admission. A short prompt has nothing before the window: then all of it. */
const eligibleTokens = (length: number, windowTokens: number): number =>
  length > windowTokens ? length - windowTokens : length;

/** Opens the gate of one head when its prompt has been read; `known`: its scores, where they were computed before. */
export const openGate = (
  view: PrefillView,
  at: number,
  request: GateRequest,
  world: World,
  known?: TokenScores,
): HeadGate => {
  const { source, threshold, rate, windowTokens, sinkTokens } = request;
  const flags = new Uint8Array(world.maxTokens);
  const n = view.length;
  const { scores, later } = known ?? tokenScores(view, at, source, view.heads[at].random, world);
  if (source === 'gate') {
    for (let token = 0; token < n; token++) flags[token] = scores[token] > threshold ? 1 : 0;
    return {
      flags,
      write(token) {
        flags[token] = later(token) > threshold ? 1 : 0;
      },
    };
  }
  const eligible = eligibleTokens(n, windowTokens);
  const k = Math.floor(rate * eligible + 1e-9);
  const sinks = Math.min(sinkTokens, k, eligible);
  flags.fill(1, 0, sinks);
  const ranking = new Ranking(eligible);
  const count = ranking.best(scores, sinks, eligible, k - sinks);
  let least = Infinity;
  for (let i = 0; i < count; i++) {
    flags[ranking.positions[i]] = 1;
    least = Math.min(least, scores[ranking.positions[i]]);
  }
  for (let token = eligible; token < n; token++) flags[token] = scores[token] >= least ? 1 : 0;
  return {
    flags,
    write(token) {
      flags[token] = later(token) >= least ? 1 : 0;
    },
  };
};

/**
 * One threshold over the scores of all heads that are replayed, such that `admission` of the eligible tokens pass it on
 * average. `survey` must have seen every layer; then `rate` says what a head admits, and `takeScores` gives, once, what
 * it was decided on.
 */
export const sharedThreshold = (
  { source, windowTokens, sinkTokens }: Omit<GateRequest, 'rate' | 'threshold'>,
  admission: number,
  world: World,
) => {
  const seen = new Map<number, Map<number, TokenScores>>();
  const eligible = eligibleTokens(world.promptTokens, windowTokens);
  const sinks = Math.min(sinkTokens, Math.floor(admission * eligible + 1e-9), eligible);
  const elected = Math.floor(admission * eligible - sinks + 1e-9);
  let rates: ReadonlyMap<string, number> | null = null;
  const share = (): ReadonlyMap<string, number> => {
    const rows = new Map(
      [...seen].map(([layer, heads]) => [
        layer,
        [...heads.values()].map(({ scores, share }) => scores.subarray(sinks, eligible).map(share)),
      ]),
    );
    const counts = modelBudgets(rows, world.layers, elected);
    const entries = [...seen].flatMap(([layer, heads]) =>
      [...heads.keys()].map(
        (kvHead, at) => [`${layer} ${kvHead}`, (sinks + (counts.get(layer)?.[at] ?? 0)) / eligible] as const,
      ),
    );
    return new Map(entries);
  };
  return {
    survey(view: PromptView): void {
      seen.set(
        view.layer,
        new Map(view.heads.map(({ kvHead }, at) => [kvHead, tokenScores(view, at, source, null, world)])),
      );
    },
    rate(layer: number, kvHead: number): number {
      rates ??= share();
      return rates.get(`${layer} ${kvHead}`) ?? admission;
    },
    takeScores(layer: number, kvHead: number): TokenScores | undefined {
      const scores = seen.get(layer)?.get(kvHead);
      seen.get(layer)?.delete(kvHead);
      return scores;
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
