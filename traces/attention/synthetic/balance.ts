/**
 * Divides a head's mass among the start, the text, its evidence, the question and the answer as wanted, at any length:
 * nats of the sink, the evidence, the question and the answer are sought under which a sample of its own queries attends
 * so. Each region's mass grows with its nats as e^nats, as far as a query agrees with the mean query.
 */
import { exp, log } from '../../../sim/engine/math.ts';
import { rotateRows } from '../../../sim/trace/rope.ts';
import type { Regions } from '../presets/preset.ts';
import { type KeyRun, keyRun, logMasses, type ProbeQueries, probeQueries } from './probe.ts';
import { answerTokens } from './regions.ts';
import { blockTokens, type HeadScales, type RowSource } from './rows.ts';

/** Blocks of text looked at: all of a short one. */
const sampledBlocks = 160;

const rounds = 24;
/** Most that a region's mass may be raised, nats, and in one round. */
const mostNats = { start: 60, evidence: 16, question: 16, answer: 16 } as const;
const mostStep = 3;
/** A head whose queries hardly agree with their mean moves little: nats are not divided by less. */
const leastGain = 0.2;
/** A share that is as good as none: a region is not pushed further. */
const leastShare = 2e-3;

const landmarks = ['start', 'evidence', 'question', 'answer'] as const;
type Landmark = (typeof landmarks)[number];
type Landmarks = Record<Landmark, number>;
type Shares = Landmarks & { text: number };

/** One query: logarithm of each region's mass without nats, and what one nat moves. */
interface Sampled {
  readonly mass: Readonly<Shares>;
  readonly gain: Readonly<Landmarks>;
}

/** `scales` as solved so far, without nats of regions; the text has to hold `answerTokens` of the answer. */
export function balanceRegions(source: RowSource, scales: HeadScales, wanted: Regions): HeadScales {
  const sampled = sampleRegions(source, scales);
  const nats: Landmarks = { start: 0, evidence: 0, question: 0, answer: 0 };
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
  return {
    ...scales,
    sinkNats: nats.start,
    evidenceNats: nats.evidence,
    questionNats: nats.question,
    answerNats: nats.answer,
  };
}

/** Logarithm of a region's share over the text's. */
const ratioOf = (shares: Shares, region: Landmark): number =>
  log(Math.max(leastShare, shares[region])) - log(Math.max(leastShare, shares.text));

/** Shares of the mass under given nats, and how strongly nats move them, mean over the queries. */
function meanShares(sampled: readonly Sampled[], nats: Landmarks): { shares: Shares; gains: Landmarks } {
  const shares = { start: 0, text: 0, evidence: 0, question: 0, answer: 0 };
  const gains: Landmarks = { start: 0, evidence: 0, question: 0, answer: 0 };
  for (const { mass, gain } of sampled) {
    const raised = { ...mass };
    for (const region of landmarks) {
      raised[region] += nats[region] * gain[region];
      gains[region] += gain[region] / sampled.length;
    }
    const parts = [...landmarks, 'text'] as const;
    const top = parts.reduce((most, part) => Math.max(most, raised[part]), raised.text);
    const all = parts.reduce((sum, part) => sum + exp(raised[part] - top), 0);
    for (const part of parts) shares[part] += exp(raised[part] - top) / all / sampled.length;
  }
  return { shares, gains };
}

function sampleRegions(source: RowSource, scales: HeadScales): readonly Sampled[] {
  const { promptTokens, geometry, text } = source;
  const { textFrom, textTo, evidenceFrom, evidenceTo } = text.bounds;
  const queries = probeQueries(source, scales);
  const massOf = (runs: readonly KeyRun[]): Float64Array => logMasses(queries, runs, (_, run) => run.tokens);
  const run = (from: number, to: number): KeyRun => keyRun(source, scales, from, to);
  const start = massOf([run(0, textFrom)]);
  const middle = massOf([
    ...textRuns(source, scales, textFrom, evidenceFrom),
    ...textRuns(source, scales, evidenceTo, textTo),
  ]);
  const evidence = massOf([run(evidenceFrom, evidenceTo)]);
  const question = massOf([run(textTo, promptTokens)]);
  const answer = logMasses(
    queries,
    [run(promptTokens, promptTokens + answerTokens)],
    (query) => queries.steps[query] + 1,
  );
  const gainAt = (axis: Float64Array, query: number, position: number): number =>
    logitAt(source, queries, query, axis, position);
  return Array.from(
    { length: queries.count },
    (_, query): Sampled => ({
      mass: {
        start: start[query],
        text: middle[query],
        evidence: evidence[query],
        question: question[query],
        answer: answer[query],
      },
      gain: {
        start: gainAt(geometry.salientAxis, query, 0),
        evidence: gainAt(geometry.salientAxis, query, (evidenceFrom + evidenceTo) >> 1),
        question: gainAt(geometry.landmarkAxis, query, (textTo + promptTokens) >> 1),
        answer: gainAt(geometry.landmarkAxis, query, promptTokens + (queries.steps[query] >> 1)),
      },
    }),
  );
}

/** Logit of a query on an unrotated key that stands at a position. */
function logitAt(
  { frequencies, headDim }: RowSource,
  { rows }: ProbeQueries,
  query: number,
  unrotated: Float64Array,
  position: number,
): number {
  const key = Float32Array.from(unrotated);
  rotateRows(key, 1, frequencies, position, 0);
  let sum = 0;
  for (let c = 0; c < headDim; c++) sum += rows[query * headDim + c] * key[c];
  return sum / Math.sqrt(headDim);
}

/** Blocks of the text's part [from, to), evenly chosen. */
function textRuns(source: RowSource, scales: HeadScales, from: number, to: number): readonly KeyRun[] {
  const first = Math.ceil(from / blockTokens);
  const all = Math.floor((to - first * blockTokens) / blockTokens);
  if (all <= 0) return to > from ? [keyRun(source, scales, from, to)] : [];
  const count = Math.min(sampledBlocks, all);
  const runs = Array.from({ length: count }, (_, i) => {
    const at = (first + Math.floor((i * all) / count)) * blockTokens;
    return keyRun(source, scales, at, at + blockTokens);
  });
  return runs.map((run) => ({ ...run, weight: (to - from) / (count * blockTokens) }));
}
