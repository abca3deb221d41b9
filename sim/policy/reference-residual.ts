/**
 * A token as what it adds to its nearest references: [k; v] of one KV head minus the mean of the `neighbours` nearest
 * earlier references, projected on few directions and quantised. DeltaKV (arXiv 2602.08005; CURRENTF/Sparse-vLLM) trains
 * both maps on the vectors of all heads of a layer; without its weights the directions here are those in which the head's own
 * residuals vary most, learned from its first rows. References lie among the rows and are handed through.
 */
import { createRandom } from '../engine/random.ts';
import type { Codec, CodedBlock } from './codec.ts';
import { groupScaleBytes, quantiseRows } from './group-quantiser.ts';
import { principalDirections } from './principal.ts';
import type { ReferencePlan } from './reference-plan.ts';
import { type Metric, ReferenceSearch } from './reference-search.ts';
import { coordinatesOf, rowsAt } from './subspace.ts';

export interface ResidualConfig {
  /** Directions kept per KV head. */
  readonly rank: number;
  /** Bits of one coordinate; 16 = not quantised. */
  readonly bits: number;
  readonly neighbours: number;
  readonly metric: Metric;
  /** Bytes of one coded token of one KV head, scales apart. */
  readonly payloadBytes: number;
}

/** Coordinates that share a scale and a minimum. */
const GROUP_CHANNELS = 32;
/** Rows of the prompt that directions are learned from at most. */
const LEARN_TOKENS = 1024;

/** Keys and values of one head, row-major [tokens, d]. */
interface Source {
  readonly keys: Float32Array;
  readonly values: Float32Array;
  readonly d: number;
}

interface Learned {
  readonly search: ReferenceSearch;
  /** Directions of the residuals, keys and values apart: row-major [rank, d]. */
  readonly keyBasis: Float32Array;
  readonly valueBasis: Float32Array;
}

/** [k; v] of tokens [from, from + tokens): row-major [tokens, 2 · d]. */
const rowsOf = ({ keys, values, d }: Source, from: number, tokens: number): Float32Array => {
  const rows = new Float32Array(tokens * 2 * d);
  for (let t = 0; t < tokens; t++) {
    rows.set(keys.subarray((from + t) * d, (from + t + 1) * d), t * 2 * d);
    rows.set(values.subarray((from + t) * d, (from + t + 1) * d), t * 2 * d + d);
  }
  return rows;
};

/** Half of the columns of a matrix with 2 · d columns, from column `first` on. */
const halfOf = (matrix: Float32Array, d: number, first: number): Float32Array => {
  const rows = matrix.length / (2 * d);
  const out = new Float32Array(rows * d);
  for (let row = 0; row < rows; row++)
    out.set(matrix.subarray(row * 2 * d + first, row * 2 * d + first + d), row * d);
  return out;
};

/** Adds the mean of each token's references, rows of `matrix` [., d], to its row of `sums` [tokens, d]. */
const addMeans = (
  matrix: Float32Array,
  d: number,
  found: Int32Array,
  neighbours: number,
  sums: Float64Array,
): void => {
  for (let t = 0; t < found.length / neighbours; t++) {
    const near = found.subarray(t * neighbours, (t + 1) * neighbours).filter((position) => position >= 0);
    for (const position of near)
      for (let c = 0; c < d; c++) sums[t * d + c] += matrix[position * d + c] / near.length;
  }
};

/** `rows` [tokens, 2 · d] minus the means of their references. */
const residualsOf = (
  source: Source,
  rows: Float32Array,
  found: Int32Array,
  neighbours: number,
): Float32Array => {
  const { keys, values, d } = source;
  const out = rows.slice();
  const tokens = rows.length / (2 * d);
  for (const [matrix, offset] of [
    [keys, 0],
    [values, d],
  ] as const) {
    const means = new Float64Array(tokens * d);
    addMeans(matrix, d, found, neighbours, means);
    for (let t = 0; t < tokens; t++)
      for (let c = 0; c < d; c++) out[t * 2 * d + offset + c] -= means[t * d + c];
  }
  return out;
};

/** The codec of a run: rows of many heads, each known by its array of keys. */
export const residualCodec = (config: ResidualConfig, plan: ReferencePlan): Codec => {
  const { bits, neighbours, payloadBytes } = config;
  const grouping = { bits, groupTokens: 1, groupChannels: GROUP_CHANNELS };
  const learnTokens = Math.min(LEARN_TOKENS, plan.promptTokens);
  const heads = new WeakMap<Float32Array, Learned>();
  const learn = (source: Source): Learned => {
    const known = heads.get(source.keys);
    if (known !== undefined) return known;
    const channels = 2 * source.d;
    const rows = rowsOf(source, 0, learnTokens);
    const search = new ReferenceSearch(plan, config.metric, rows, channels);
    const found = search.nearest(rows, 0, neighbours, (position) => rowsOf(source, position, 1));
    const residuals = residualsOf(source, rows, found, neighbours);
    for (let t = 0; t < learnTokens; t++)
      if (plan.isReference[t] === 1) residuals.fill(0, t * channels, (t + 1) * channels);
    const sample = { rows: residuals, rowCount: learnTokens, channels };
    const { basis } = principalDirections(sample, config.rank, createRandom(1, 'residual-directions'));
    const learned = {
      search,
      keyBasis: halfOf(basis, source.d, 0),
      valueBasis: halfOf(basis, source.d, source.d),
    };
    heads.set(source.keys, learned);
    return learned;
  };
  const encode = (source: Source, from: number, tokens: number): CodedBlock => {
    const { keys, values, d } = source;
    const { search, keyBasis, valueBasis } = learn(source);
    const rows = rowsOf(source, from, tokens);
    const found = search.nearest(rows, from, neighbours, (position) => rowsOf(source, position, 1));
    const residuals = residualsOf(source, rows, found, neighbours);
    const rank = keyBasis.length / d;
    const latents = coordinatesOf(halfOf(residuals, d, 0), d, tokens, keyBasis);
    coordinatesOf(halfOf(residuals, d, d), d, tokens, valueBasis).forEach((x, i) => {
      latents[i] += x;
    });
    if (bits < 16) quantiseRows(latents, rank, 0, tokens, grouping).decode(latents);
    const decode = (matrix: Float32Array, basis: Float32Array, out: Float32Array): void => {
      const sums = rowsAt(latents, d, tokens, basis);
      addMeans(matrix, d, found, neighbours, sums);
      for (let t = 0; t < tokens; t++) {
        const at = (from + t) * d;
        if (plan.isReference[from + t] === 1) out.set(matrix.subarray(at, at + d), t * d);
        else out.set(sums.subarray(t * d, (t + 1) * d), t * d);
      }
    };
    return {
      tokens,
      decodeKeys: (out) => decode(keys, keyBasis, out),
      decodeValues: (out) => decode(values, valueBasis, out),
    };
  };
  return {
    name: `residual${bits}`,
    title: `residual to the mean of ${neighbours} references, rank ${config.rank}, ${bits} bits`,
    kBytesPerToken: () => payloadBytes / 2,
    vBytesPerToken: () => payloadBytes / 2,
    scaleBytes: (_, tokens) => (bits === 16 ? 0 : groupScaleBytes(grouping, config.rank, 1) * tokens),
    // Rebuilt into raw rows before attention, by work that the policy declares.
    decodeFlopsPerToken: () => 0,
    isRebuilt: true,
    learnTokens,
    encode: (keys, values, d, from, tokens) => encode({ keys, values, d }, from, tokens),
  };
};
