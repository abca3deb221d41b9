/**
 * Residuals to references, after DeltaKV (arXiv 2602.08005): every tenth token of a block stays raw; each other token is
 * the mean of its four nearest references in the block plus a residual, of which 4-bit coordinates along a quarter of the
 * channels' directions are kept. DeltaKV trains its compressor on all heads of a layer together and searches all earlier
 * references; here the directions are those in which the head's own residuals vary most.
 */
import { createRandom } from '../../engine/random.ts';
import { dotRows } from '../../engine/simd.ts';
import type { Codec } from '../codec.ts';
import { type Grouping, groupScaleBytes, quantiseRows } from '../group-quantiser.ts';
import { LEARN_TOKENS, learnedTables } from '../learned-tables.ts';
import { principalDirections } from '../principal.ts';
import { coordinatesOf, rowsAt } from '../subspace.ts';

const STRIDE = 10;
const NEIGHBOURS = 4;
const RANK_SHARE = 0.25;
const GROUPING: Grouping = { bits: 4, groupTokens: 1, groupChannels: 32 };
/** Residuals that directions are learned from belong to blocks of this many tokens. */
const LEARN_BLOCK_TOKENS = 128;
const SEED = 1;

const rankOf = (headDim: number): number => Math.ceil(RANK_SHARE * headDim);

/** Sum of the nearest references' rows over their number, for each token of a block: row-major [tokens, d]. */
const meansOf = (rows: Float32Array, d: number, from: number, tokens: number): Float32Array => {
  const own = rows.subarray(from * d, (from + tokens) * d);
  const count = Math.ceil(tokens / STRIDE);
  const references = new Float32Array(count * d);
  for (let r = 0; r < count; r++) references.set(own.subarray(r * STRIDE * d, (r * STRIDE + 1) * d), r * d);
  const products = new Float32Array(count * tokens);
  const job = { queries: references, queryCount: count, rows: own, rowCount: tokens, channels: d };
  dotRows({ ...job, out: products, stride: tokens, scale: 1 });
  const halfSquares = Float32Array.from({ length: count }, (_, r) => products[r * tokens + r * STRIDE] / 2);
  const means = new Float32Array(tokens * d);
  const kept = Math.min(NEIGHBOURS, count);
  const order = Array.from({ length: count }, (_, r) => r);
  for (let t = 0; t < tokens; t++) {
    // The nearest has the largest product less half of its own square.
    const score = (r: number): number => products[r * tokens + t] - halfSquares[r];
    const near = [...order].sort((a, b) => score(b) - score(a) || a - b).slice(0, kept);
    for (const r of near) for (let c = 0; c < d; c++) means[t * d + c] += references[r * d + c] / kept;
  }
  return means;
};

const residualsOf = (rows: Float32Array, d: number, from: number, tokens: number, means: Float32Array) =>
  rows
    .slice(from * d, (from + tokens) * d)
    .map((x, i) => (Math.floor(i / d) % STRIDE === 0 ? 0 : x - means[i]));

const learnBasis = (rows: Float32Array, channels: number, rowCount: number): Float32Array => {
  const residuals = new Float32Array(rowCount * channels);
  for (let from = 0; from < rowCount; from += LEARN_BLOCK_TOKENS) {
    const tokens = Math.min(LEARN_BLOCK_TOKENS, rowCount - from);
    const means = meansOf(rows, channels, from, tokens);
    residuals.set(residualsOf(rows, channels, from, tokens, means), from * channels);
  }
  const random = createRandom(SEED, 'residual');
  return principalDirections({ rows: residuals, rowCount, channels }, rankOf(channels), random).basis;
};

const codeRows = (rows: Float32Array, d: number, from: number, tokens: number, basis: Float32Array) => {
  const means = meansOf(rows, d, from, tokens);
  const coordinates = coordinatesOf(residualsOf(rows, d, from, tokens, means), d, tokens, basis);
  quantiseRows(coordinates, rankOf(d), 0, tokens, GROUPING).decode(coordinates);
  return (out: Float32Array): void => {
    out.set(rowsAt(coordinates, d, tokens, basis));
    for (let i = 0; i < out.length; i++) out[i] += means[i];
    for (let t = 0; t < tokens; t += STRIDE)
      out.set(rows.subarray((from + t) * d, (from + t + 1) * d), t * d);
  };
};

const keyBasis = learnedTables(LEARN_TOKENS, learnBasis);
const valueBasis = learnedTables(LEARN_TOKENS, learnBasis);
const payloadBytes = (headDim: number): number => (rankOf(headDim) * GROUPING.bits) / 8;

export const codec: Codec = {
  name: 'residual4',
  title: '4-bit residuals to the nearest of every tenth token',
  kBytesPerToken: payloadBytes,
  vBytesPerToken: payloadBytes,
  // References are raw (16-bit elements); the others take scales, minima and one byte per reference, for keys and values.
  scaleBytes: (headDim, tokens) => {
    const references = Math.ceil(tokens / STRIDE);
    const own = 2 * (groupScaleBytes(GROUPING, rankOf(headDim), 1) + NEIGHBOURS);
    return references * (4 * headDim - 2 * payloadBytes(headDim)) + (tokens - references) * own;
  },
  tableBytes: (headDim) => 2 * 2 * rankOf(headDim) * headDim,
  decodeFlopsPerToken: (headDim) => 2 * headDim * (2 * rankOf(headDim) + NEIGHBOURS),
  encode: (keys, values, headDim, from, tokens) => ({
    tokens,
    decodeKeys: codeRows(keys, headDim, from, tokens, keyBasis(keys, headDim, from + tokens)),
    decodeValues: codeRows(values, headDim, from, tokens, valueBasis(values, headDim, from + tokens)),
  }),
};
