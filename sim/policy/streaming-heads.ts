/**
 * Head classes that are fixed for a run: retrieval heads keep everything, streaming heads keep sinks and a window. Who
 * is which is a rank cut over scores per KV head, learned ones that are passed in or the trace's own far attention; not
 * a threshold, because learned scores cluster near 1 (mit-han-lab/duo-attention duo_attn/utils.py cuts at a quantile).
 */
import * as z from 'zod';
import { SimError } from '../error.ts';
import { type LayerPolicy, type Policy, type PromptView, policyDefaults, type World } from './policy.ts';
import { visitPromptRows } from './prompt-rows.ts';

/** Fields of a policy with streaming heads, with its published sizes as defaults. */
export const streamingFields = (sinkTokens: number, windowTokens: number, streamingRatio: number) => ({
  sinkTokens: z.int().min(0).default(sinkTokens).describe('first tokens that streaming heads keep'),
  windowTokens: z.int().min(1).default(windowTokens).describe('most recent tokens that streaming heads keep'),
  streamingRatio: z
    .number()
    .min(0)
    .max(1)
    .nullable()
    .default(streamingRatio)
    .describe('share of KV heads that stream, those with the lowest scores; null = scores below 0.5'),
  heads: z
    .array(z.array(z.number()))
    .nullable()
    .default(null)
    .describe(
      'score of every KV head, a row a layer (@FILE reads a table); null = far attention of the trace',
    ),
  chunkTokens: z
    .int()
    .min(1)
    .default(32000)
    .describe('prompt tokens at a time; streaming heads see their cache and the chunk'),
});
const config = z.object(streamingFields(0, 1, 0));
export type StreamingConfig = z.infer<typeof config>;

/** Score from which a head is a retrieval head where no share is given (duo-attention --threshold). */
const THRESHOLD = 0.5;

export interface ScoredHead {
  readonly layer: number;
  readonly kvHead: number;
  readonly score: number;
}

const keyOf = (layer: number, kvHead: number): string => `${layer}.${kvHead}`;

/** Retrieval heads: as many as lie at or above the quantile, N - ceil(ratio (N - 1)), as numpy interpolates it. */
const retrievalHeads = (heads: readonly ScoredHead[], ratio: number | null): ReadonlySet<string> => {
  // Equal scores go to all layers alike.
  const ranked = [...heads].sort((a, b) => b.score - a.score || a.kvHead - b.kvHead || a.layer - b.layer);
  const n = ranked.length;
  const count =
    ratio === null
      ? ranked.filter(({ score }) => score >= THRESHOLD).length
      : ratio >= 1
        ? 0
        : n - Math.ceil(ratio * (n - 1));
  return new Set(ranked.slice(0, count).map(({ layer, kvHead }) => keyOf(layer, kvHead)));
};

const range = (n: number): readonly number[] => Array.from({ length: n }, (_, i) => i);

const replayedOf = (world: World) =>
  world.replayed ?? { layers: range(world.layers), kvHeads: range(world.kvHeads) };

/** The replayed heads with the scores that were passed in. Throws SimError when these are not one for every head. */
export const givenScores = (
  name: string,
  rows: readonly (readonly number[])[],
  world: World,
): readonly ScoredHead[] => {
  const { layers, kvHeads } = world;
  const wrong = rows.findIndex((row) => row.length !== kvHeads);
  if (rows.length !== layers || wrong >= 0) {
    const found = wrong >= 0 ? `${rows[wrong].length} in row ${wrong}` : `${rows.length} rows`;
    throw new SimError(
      'invalid-input',
      `policy ${name}, parameter heads: expected ${layers} rows of ${kvHeads} scores, found ${found}`,
    );
  }
  const replayed = replayedOf(world);
  return replayed.layers.flatMap((layer) =>
    replayed.kvHeads.map((kvHead) => ({ layer, kvHead, score: rows[layer][kvHead] })),
  );
};

/** Mean attention of the recorded prompt queries outside sinks and window, of every head of a layer. */
const farAttention = (view: PromptView, c: StreamingConfig, world: World): readonly ScoredHead[] =>
  view.heads.map(({ kvHead }, at) => {
    let far = 0;
    let rows = 0;
    visitPromptRows(view, at, world, view.length, (row) => {
      rows++;
      for (let i = c.sinkTokens; i < row.length - c.windowTokens; i++) far += row[i];
    });
    return { layer: view.layer, kvHead, score: rows === 0 ? 0 : far / rows };
  });

/** Keys that a prompt query of a streaming head sees on average: its cache, and half of its chunk. */
const streamingPromptTokens = (promptTokens: number, cacheTokens: number, chunkTokens: number): number => {
  let seen = 0;
  for (let start = 0; start < promptTokens; start += chunkTokens) {
    const tokens = Math.min(chunkTokens, promptTokens - start);
    seen += tokens * (Math.min(start, cacheTokens) + tokens / 2);
  }
  return seen / promptTokens;
};

/** What a result adds where scores of some heads rank these alone. */
export const rankedAmong = (world: World): string => {
  const { layers, kvHeads } = replayedOf(world);
  const isWhole = layers.length === world.layers && kvHeads.length === world.kvHeads;
  return isWhole ? '' : ', ranked among the replayed heads';
};

/** The same where scores were passed in. */
export const givenInputs = (world: World): string => {
  const among = rankedAmong(world);
  return among === '' ? 'exact' : `head scores as given${among}`;
};

const inputsOf = (c: StreamingConfig, world: World): string => {
  const among = rankedAmong(world);
  if (c.heads !== null) return givenInputs(world);
  return world.fields.has('qprompt')
    ? `no learned head scores: heads by the far attention of the last prompt queries${among}`
    : 'no learned head scores and no prompt queries: any heads, the same number in every layer';
};

/**
 * Parameters at which `tokens` are attended on average: half for retrieval heads, as far as whole heads allow, the rest
 * for the streaming ones.
 */
export const streamingAtBudget = (tokens: number, world: World, publishedSinks: number) => {
  const { layers, kvHeads } = replayedOf(world);
  const n = layers.length * kvHeads.length;
  const prompt = world.promptTokens;
  if (tokens >= prompt) return { streamingRatio: 0 };
  const half = tokens >> 1;
  const full = Math.floor((n * (tokens - half)) / (prompt - half));
  const each = Math.floor((tokens * n - full * prompt) / (n - full));
  const sinkTokens = Math.min(publishedSinks, each >> 1);
  // In the middle of the ratios that cut there.
  const streamingRatio = full === 0 ? 1 : (n - full - 0.5) / (n - 1);
  return { streamingRatio, sinkTokens, windowTokens: each - sinkTokens };
};

/** The policy, whatever it is called and wherever its scores were learned. */
export const streamingHeads = (name: string, c: StreamingConfig, world: World): Policy => {
  const scored: ScoredHead[] = c.heads === null ? [] : [...givenScores(name, c.heads, world)];
  let retrieval: ReadonlySet<string> | null = null;
  const isStreaming = (layer: number, kvHead: number): boolean => {
    retrieval ??= retrievalHeads(scored, c.streamingRatio);
    return !retrieval.has(keyOf(layer, kvHead));
  };
  const cacheTokens = c.sinkTokens + c.windowTokens;
  const promptTokens = streamingPromptTokens(world.promptTokens, cacheTokens, c.chunkTokens);
  const layer = (): LayerPolicy => ({
    onPrefill(view) {
      view.heads.forEach(({ kvHead, cache }, at) => {
        if (!isStreaming(view.layer, kvHead)) return;
        view.attend(at, promptTokens);
        cache.drop(c.sinkTokens, Math.max(c.sinkTokens, view.length - c.windowTokens));
      });
    },
    onAppend(view) {
      const oldest = view.length - c.windowTokens - 1;
      if (oldest < c.sinkTokens) return;
      for (const { kvHead, cache } of view.heads)
        if (isStreaming(view.layer, kvHead)) cache.drop(oldest, oldest + 1);
    },
  });
  const survey = (view: PromptView): void => {
    scored.push(...farAttention(view, c, world));
  };
  return { ...policyDefaults, inputs: inputsOf(c, world), layer, ...(c.heads === null ? { survey } : {}) };
};
