/**
 * Divides a head's mass among the start, the text, the question and the answer as wanted, at any length: nats of the
 * sink, the question and the answer are sought under which a sample of its own queries attends so. Each region's mass
 * grows with its nats as e^nats, as far as a query agrees with the mean query.
 */
import { exp, log } from '../../../sim/engine/math.ts';
import { logitsInto } from '../../../sim/quality/exact-attention.ts';
import { rotateRows } from '../../../sim/trace/rope.ts';
import type { Regions } from '../presets/preset.ts';
import { groupQueries } from './queries.ts';
import { blockTokens, fillKeys, type HeadScales, type RowSource } from './rows.ts';

/** Tokens at the start that the sink and a chat template take. */
export const startTokens = 32;
/** Tokens of an answer that shares are measured over, from its start, and steps looked at in their middle parts. */
export const answerTokens = 64;
const sampledSteps = [4, 12, 20, 28, 36, 44, 52, 60] as const;
const sampledHeads = 8;
/** Blocks of text looked at: all of a short one. */
const sampledBlocks = 160;

const rounds = 24;
/** Most that a region's mass may be raised, nats, and in one round. */
const mostNats = { start: 60, question: 16, answer: 16 } as const;
const mostStep = 3;
/** A head whose queries hardly agree with their mean moves little: nats are not divided by less. */
const leastGain = 0.2;
const leastShare = 1e-6;

const landmarks = ['start', 'question', 'answer'] as const;
type Landmark = (typeof landmarks)[number];
type Landmarks = Record<Landmark, number>;

/** One query: logarithm of each region's mass without nats, and what one nat moves. */
interface Sampled {
  readonly mass: Landmarks & { readonly text: number };
  readonly gain: Landmarks;
}

/** `scales` as solved so far, without nats of regions; the text has to hold `answerTokens` of the answer. */
export function balanceRegions(rows: RowSource, scales: HeadScales, wanted: Regions): HeadScales {
  const sampled = sampleRegions(rows, scales);
  const nats: Landmarks = { start: 0, question: 0, answer: 0 };
  for (let round = 0; round < rounds; round++) {
    const { shares, gains } = meanShares(sampled, nats);
    for (const region of landmarks) {
      const excess = ratioOf(wanted, region) - ratioOf(shares, region);
      const gain = Math.max(leastGain, gains[region]);
      const limit = mostNats[region] / gain;
      const next = nats[region] + Math.max(-mostStep, Math.min(mostStep, excess)) / gain;
      nats[region] = Math.max(-limit, Math.min(limit, next));
    }
  }
  return { ...scales, sinkNats: nats.start, questionNats: nats.question, answerNats: nats.answer };
}

/** Logarithm of a region's share over the text's. */
const ratioOf = (regions: Regions, region: Landmark): number =>
  log(Math.max(leastShare, regions[region])) - log(Math.max(leastShare, regions.text));

/** Shares of the mass under given nats, and how strongly nats move them, mean over the queries. */
function meanShares(sampled: readonly Sampled[], nats: Landmarks): { shares: Regions; gains: Landmarks } {
  const shares = { start: 0, text: 0, question: 0, answer: 0 };
  const gains: Landmarks = { start: 0, question: 0, answer: 0 };
  for (const { mass, gain } of sampled) {
    const raised = { ...mass };
    for (const region of landmarks) {
      raised[region] += nats[region] * gain[region];
      gains[region] += gain[region] / sampled.length;
    }
    const top = Math.max(raised.start, raised.text, raised.question, raised.answer);
    const all =
      exp(raised.start - top) +
      exp(raised.text - top) +
      exp(raised.question - top) +
      exp(raised.answer - top);
    for (const region of ['start', 'text', 'question', 'answer'] as const)
      shares[region] += exp(raised[region] - top) / all / sampled.length;
  }
  return { shares, gains };
}

/** A run of keys at consecutive positions, and how many keys of the trace each of them stands for. */
interface KeyRun {
  readonly keys: Float32Array;
  readonly weight: number;
}

/** Rotated queries [steps × heads, headDim]; those of a step lie together. */
function sampleQueries(rows: RowSource, focus: number): Float32Array {
  const { headDim, promptTokens, geometry, frequencies } = rows;
  const heads = Math.min(sampledHeads, geometry.profile.queries.length);
  const queries = new Float32Array(sampledSteps.length * heads * headDim);
  for (const [i, step] of sampledSteps.entries()) {
    const group = groupQueries(rows, promptTokens + step, focus).subarray(0, heads * headDim);
    rotateRows(group, heads, frequencies, promptTokens + step, 0);
    queries.set(group, i * heads * headDim);
  }
  return queries;
}

function sampleRegions(rows: RowSource, scales: HeadScales): readonly Sampled[] {
  const { headDim, promptTokens, geometry, text, frequencies } = rows;
  const questionStart = Math.max(startTokens, text.questionStart);
  const queries = sampleQueries(rows, scales.focus);
  const count = queries.length / headDim;
  const stepOf = (query: number): number => sampledSteps[Math.floor((query * sampledSteps.length) / count)];
  const all = (run: KeyRun): number => run.keys.length / headDim;
  const massOf = (runs: readonly KeyRun[], seen: (query: number, run: KeyRun) => number): Float64Array =>
    logMasses(queries, headDim, runs, seen);
  const run = (from: number, to: number): KeyRun => keyRun(rows, scales, from, to);
  const start = massOf([run(0, Math.min(startTokens, promptTokens))], (_, keys) => all(keys));
  const middle = massOf(textRuns(rows, scales, startTokens, questionStart), (_, keys) => all(keys));
  const question = massOf([run(questionStart, promptTokens)], (_, keys) => all(keys));
  const answer = massOf([run(promptTokens, promptTokens + answerTokens)], (query) => stepOf(query) + 1);
  const gainAt = (axis: Float64Array, query: number, position: number): number => {
    const key = Float32Array.from(axis);
    rotateRows(key, 1, frequencies, position, 0);
    let sum = 0;
    for (let c = 0; c < headDim; c++) sum += queries[query * headDim + c] * key[c];
    return sum / Math.sqrt(headDim);
  };
  return Array.from(
    { length: count },
    (_, query): Sampled => ({
      mass: { start: start[query], text: middle[query], question: question[query], answer: answer[query] },
      gain: {
        start: gainAt(geometry.salientAxis, query, 0),
        question: gainAt(geometry.landmarkAxis, query, (questionStart + promptTokens) >> 1),
        answer: gainAt(geometry.landmarkAxis, query, promptTokens + (stepOf(query) >> 1)),
      },
    }),
  );
}

/** Keys [from, to) as the trace has them. */
function keyRun(rows: RowSource, scales: HeadScales, from: number, to: number): KeyRun {
  const { headDim } = rows;
  const block = from - (from % blockTokens);
  const keys = new Float32Array(Math.max(0, to - block) * headDim);
  fillKeys(rows, scales, block, keys);
  return { keys: keys.subarray((from - block) * headDim), weight: 1 };
}

/** Blocks of text, evenly chosen. */
function textRuns(rows: RowSource, scales: HeadScales, from: number, to: number): readonly KeyRun[] {
  const all = Math.floor((to - from) / blockTokens);
  if (all === 0) return [keyRun(rows, scales, from, to)];
  const count = Math.min(sampledBlocks, all);
  const runs = Array.from({ length: count }, (_, i) => {
    const first = Math.ceil(from / blockTokens + Math.floor((i * all) / count)) * blockTokens;
    return keyRun(rows, scales, first, Math.min(to, first + blockTokens));
  });
  const sampled = runs.reduce((sum, { keys }) => sum + keys.length / rows.headDim, 0);
  return runs.map(({ keys }) => ({ keys, weight: (to - from) / sampled }));
}

/** Logarithm of each query's mass on the first so many keys of each run that it sees. */
function logMasses(
  queries: Float32Array,
  headDim: number,
  runs: readonly KeyRun[],
  seen: (query: number, run: KeyRun) => number,
): Float64Array {
  const count = queries.length / headDim;
  const top = new Float64Array(count).fill(-1e3);
  const mass = new Float64Array(count);
  for (const run of runs) {
    const tokens = run.keys.length / headDim;
    const logits = new Float32Array(count * tokens);
    logitsInto(queries, count, run.keys, headDim, tokens, logits, tokens);
    for (let query = 0; query < count; query++) {
      const row = logits.subarray(query * tokens, query * tokens + seen(query, run));
      const highest = row.reduce((a, b) => Math.max(a, b), top[query]);
      let sum = mass[query] * exp(top[query] - highest);
      for (const logit of row) sum += run.weight * exp(logit - highest);
      mass[query] = sum;
      top[query] = highest;
    }
  }
  return mass.map((sum, query) => top[query] + log(Math.max(1e-12, sum)));
}
