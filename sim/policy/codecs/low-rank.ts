/**
 * Keys and values as coordinates in a head's own subspace: half of the channels' directions, those in which the first
 * rows vary most, coordinates in half precision. ShadowKV keeps keys this way, all heads of a layer together (rank 160 of
 * 1024, arXiv 2410.21465); keys before rotary embedding have fewer directions than after it.
 */
import { createRandom } from '../../engine/random.ts';
import type { Codec } from '../codec.ts';
import { roundToHalf } from '../group-quantiser.ts';
import { LEARN_TOKENS, learnedTables } from '../learned-tables.ts';
import { principalDirections } from '../principal.ts';
import { coordinatesOf, rowsAt } from '../subspace.ts';

/** Share of the directions that is kept. */
const RANK_SHARE = 0.5;
const SEED = 1;

const rankOf = (headDim: number): number => Math.ceil(RANK_SHARE * headDim);

const learnBasis = (rows: Float32Array, channels: number, rowCount: number): Float32Array => {
  const random = createRandom(SEED, 'low-rank');
  return principalDirections({ rows, rowCount, channels }, rankOf(channels), random).basis.map(roundToHalf);
};

const codeRows = (
  rows: Float32Array,
  channels: number,
  from: number,
  rowCount: number,
  basis: Float32Array,
): ((out: Float32Array) => void) => {
  const own = rows.subarray(from * channels);
  const coordinates = coordinatesOf(own, channels, rowCount, basis).map(roundToHalf);
  return (out) => out.set(rowsAt(coordinates, channels, rowCount, basis));
};

const keyBasis = learnedTables(LEARN_TOKENS, learnBasis);
const valueBasis = learnedTables(LEARN_TOKENS, learnBasis);

export const codec: Codec = {
  name: 'low-rank',
  title: 'half of the directions, coordinates in half precision',
  kBytesPerToken: (headDim) => 2 * rankOf(headDim),
  vBytesPerToken: (headDim) => 2 * rankOf(headDim),
  scaleBytes: () => 0,
  tableBytes: (headDim) => 2 * 2 * rankOf(headDim) * headDim,
  decodeFlopsPerToken: (headDim) => 2 * 2 * rankOf(headDim) * headDim,
  encode: (keys, values, headDim, from, tokens) => ({
    tokens,
    decodeKeys: codeRows(keys, headDim, from, tokens, keyBasis(keys, headDim, from + tokens)),
    decodeValues: codeRows(values, headDim, from, tokens, valueBasis(values, headDim, from + tokens)),
  }),
};
