/**
 * Solves for how strongly the queries of a head weigh content, salience, position and sink, so that the head's
 * attention has the wanted shares: mass in the top 1 % and 10 % of the keys, in the last 256 tokens, on the sinks.
 */
import { exp, log } from '../../../sim/engine/math.ts';
import type { HeadTarget } from '../presets/preset.ts';
import type { HeadScales, QuerySource } from './queries.ts';
import { rotateRows } from './rope.ts';
import { dressKeys, plantSinks, type RowSource, sinkQueryScale, sinkTokens } from './rows.ts';
import { logitsOf, type Sample, sampleLogits, sampleQueries } from './sample.ts';
import { farDeviation, logMass, nearShare, topShare, type Weights } from './shares.ts';

/** Share of the logit variance that the positional kernel may have over far keys. */
const kernelVariance = 0.4;
/** Range that each weight is sought in. */
const limits = { content: [0.05, 3.2], salient: [0, 16], kernel: [0, 20] } as const;

export function calibrateHead(source: QuerySource, target: HeadTarget): HeadScales {
  const queries = sampleQueries(source);
  const sample = sampleLogits(source, queries, true);
  // Too few keys have no top 1 %: such a toy keeps plain weights.
  const scales = sample.keys < 64 ? { content: 1.5, salient: 0, kernel: 4 } : solveWeights(sample, target);
  return { ...scales, sinkKeys: solveSinks(source, queries, scales, target.sinkRatio) };
}

/**
 * Kernel and content in turn, then salience for what the top 1 % still lacks. The kernel's side lobes reach far keys
 * and so concentrate attention too: they may take `kernelVariance` of the logit variance that the top 10 % stands for,
 * which bounds the local share of heads with flat attention. Content keeps most of what it has when salience comes in.
 */
function solveWeights(sample: Sample, target: HeadTarget): Weights {
  const scales: Weights = { content: 1.5, salient: 0, kernel: 0 };
  const top10 = (content: number): number => topShare(sample, { ...scales, content }, 0.1) - target.massTop10;
  const budget = normalSigma(target.massTop10) * Math.sqrt(kernelVariance);
  const most = Math.min(limits.kernel[1], budget / farDeviation(sample, sample.kernel));
  const solveKernel = (): number =>
    solve([0, most], (kernel) => nearShare(sample, { ...scales, kernel }) - target.localRatio);
  for (let round = 0; round < 3; round++) {
    scales.kernel = solveKernel();
    scales.content = solve(limits.content, top10);
  }
  const least = 0.7 * scales.content;
  for (let round = 0; round < 2; round++) {
    scales.kernel = solveKernel();
    scales.salient = solve(
      limits.salient,
      (salient) => topShare(sample, { ...scales, salient }, 0.01) - target.massTop1,
    );
    scales.content = solve([least, limits.content[1]], top10);
  }
  return scales;
}

/**
 * Standard deviation in nats of normal logits whose top 10 % hold `massTop10`: mass = Φ(σ - z), z the 90 % quantile.
 * Φ by its logistic approximation, which is within 0.01 and needs no table.
 */
function normalSigma(massTop10: number): number {
  const mass = Math.min(0.99, Math.max(0.11, massTop10));
  return 1.2816 + log(mass / (1 - mass)) / 1.702;
}

/** Root of an increasing function by bisection; the nearer end where there is none. 14 halvings: 1e-3 of a nat. */
function solve([low, high]: readonly [number, number], excess: (x: number) => number): number {
  let [a, b] = [low, high];
  for (let i = 0; i < 14; i++) {
    const middle = (a + b) / 2;
    if (excess(middle) > 0) b = middle;
    else a = middle;
  }
  return (a + b) / 2;
}

/** How much of the sinks' mass each of the first four tokens holds. */
const sinkSplit = [0.85, 0.05, 0.05, 0.05];

/** Sink key components for which the first tokens hold `ratio` of all mass, averaged over the sampled queries. */
function solveSinks(
  source: QuerySource,
  queries: Float32Array,
  weights: Weights,
  ratio: number,
): Float64Array {
  const { headDim } = source.rows;
  const rest = restLogs(source, queries, weights);
  const share = (nats: number): number => {
    const mass = exp(nats);
    return rest.reduce((sum, other) => sum + mass / (mass + exp(other)), 0) / rest.length;
  };
  const nats = solve([-40, 80], (x) => share(x) - ratio);
  const shared = sharedQuery(queries, headDim, weights);
  const without = logitsOf(sinkRows(source.rows, 0), shared);
  const withOne = logitsOf(sinkRows(source.rows, 1), shared);
  return Float64Array.from(sinkSplit, (part, token) => {
    // Every query has sinkQueryScale along the axis; rotation and salience shift that a little.
    const natsPerUnit = Math.max(sinkQueryScale / 4, withOne[token] - without[token]);
    return (nats + log(part) - without[token]) / natsPerUnit;
  });
}

/** Keys of the first tokens with the given component along the sink axis. */
function sinkRows(rows: RowSource, component: number): Float32Array {
  const keys = new Float32Array(sinkTokens * rows.headDim);
  dressKeys(rows, keys, 0, 1);
  plantSinks(rows, new Float64Array(sinkTokens).fill(component), keys);
  rotateRows(keys, sinkTokens, rows.frequencies, 0, 1);
  return keys;
}

/** What all sampled queries have in common: their last three rows, weighed. */
function sharedQuery(queries: Float32Array, headDim: number, weights: Weights): Float32Array {
  const [salient, kernel, constant] = [3, 2, 1].map((row) => queries.length - row * headDim);
  return Float32Array.from(
    { length: headDim },
    (_, c) =>
      weights.salient * queries[salient + c] + weights.kernel * queries[kernel + c] + queries[constant + c],
  );
}

/**
 * Logarithm of the mass beyond the sinks for each sampled query. Each key's own noise enters by its mean,
 * E exp(noise) = exp(variance / 2), since a sample would miss the few keys that hold most of it.
 */
function restLogs(source: QuerySource, queries: Float32Array, weights: Weights): readonly number[] {
  const { headDim, geometry, keys } = source.rows;
  const sample = sampleLogits(source, queries, false);
  const shared = sharedQuery(queries, headDim, weights);
  return Array.from({ length: sample.queries }, (_, query) => {
    let variance = 0;
    for (let c = 0; c < headDim; c++) {
      const along = (weights.content * queries[query * headDim + c] + shared[c]) * geometry.noise[c];
      variance += (along * along * (1 - keys.identityRatio)) / headDim;
    }
    return logMass(sample, query, weights) + variance / 2;
  });
}
