/**
 * Queries of one KV head's group at a position: each head's mean, plus its deviation times a unit normal that is shared
 * along the text (so choices persist from step to step), with the other heads of the group, and with the key of the
 * query's own token. Every query is made from its position alone: no state runs from step to step.
 */
import { createRandom } from '../../../sim/engine/random.ts';
import { scaleAlong } from './geometry.ts';
import {
  type HeadScales,
  joinFactors,
  type Mixture,
  mixtureOf,
  partOf,
  type RowSource,
  saltOf,
  windowAt,
} from './rows.ts';

/** Most of a query's deviation that may be its own token's key, and the least norm of what is known of that key. */
const mostSelf = 0.95;
const leastNorm = 0.1;

/** Unrotated queries of the group at a position [group, headDim]; `focus` scales them. */
export function groupQueries(
  source: RowSource,
  position: number,
  { focus, selfShift }: Pick<HeadScales, 'focus' | 'selfShift'> = { focus: 1, selfShift: 0 },
): Float32Array {
  const { headDim, geometry } = source;
  const { profile, queryMean, queryDeviation } = geometry;
  const group = profile.queries.length;
  const deviations = groupDeviations(source, position);
  const common = Math.sqrt(profile.agreement);
  const own = Math.sqrt(1 - profile.agreement);
  const ownKey = ownKeyPart(source, position);
  const queries = new Float32Array(group * headDim);
  for (let head = 0; head < group; head++) {
    const most = mostSelf * ownKey.norm;
    const self = Math.min(most, Math.max(-most, profile.queries[head].self + selfShift)) / ownKey.norm;
    const rest = Math.sqrt(1 - self * self);
    for (let c = 0, i = head * headDim; c < headDim; c++, i++) {
      const free = common * deviations[c] + own * deviations[i + headDim];
      queries[i] = queryDeviation[i] * (self * ownKey.unit[c] + rest * free);
    }
  }
  for (const [head, { farSteadiness, nearSteadiness }] of profile.queries.entries()) {
    scaleAlong(geometry.farAxes[head], farSteadiness, queries, head * headDim);
    scaleAlong(geometry.nearAxes[head], nearSteadiness, queries, head * headDim);
  }
  const inPrompt = position < source.promptTokens ? 1 : 0;
  for (let i = 0; i < queries.length; i++)
    queries[i] = focus * (queries[i] + queryMean[i] + inPrompt * geometry.promptShift[i]);
  return queries;
}

/** Unit normals [1 + group, headDim]: what the group has in common, then each head's own. */
function groupDeviations(source: RowSource, position: number): Float32Array {
  const { headDim, geometry, text, normals, layer, kvHead, seed } = source;
  const { profile } = geometry;
  const rows = new Float32Array((profile.queries.length + 1) * headDim);
  createRandom(seed, `q.${layer}.${kvHead}.${position}`).fillNormal(rows);
  const mixture = mixtureOf(profile.queryCoherence);
  for (let row = 0; row * headDim < rows.length; row++) {
    const salt = saltOf.query + row;
    const i = windowAt(source, partOf.identity, salt, text.types[position]);
    const w = windowAt(source, partOf.word, salt, text.words[position]);
    const s = windowAt(source, partOf.sentence, salt, text.sentences[position]);
    const p = windowAt(source, partOf.passage, salt, text.passages[position]);
    for (let c = 0, at = row * headDim; c < headDim; c++, at++) {
      const along = mixture.word * normals[w + c] + mixture.sentence * normals[s + c];
      const far = mixture.passage * normals[p + c];
      rows[at] = mixture.own * rows[at] + mixture.identity * normals[i + c] + along + far;
    }
  }
  return rows;
}

/**
 * The part of the own token's key that a query can know without making the key, its identity's and its word's, as a unit
 * normal, and the norm that it has in the key.
 */
function ownKeyPart(source: RowSource, position: number): { norm: number; unit: Float64Array } {
  const { text, normals, geometry, headDim } = source;
  const { profile, keyOwn, drawnFactors } = geometry;
  const known = (salt: number, width: number, { identity, word }: Mixture): Float64Array => {
    const i = windowAt(source, partOf.identity, salt, text.types[position]);
    const w = windowAt(source, partOf.word, salt, text.words[position]);
    return Float64Array.from({ length: width }, (_, c) => identity * normals[i + c] + word * normals[w + c]);
  };
  const [own, shared] = [mixtureOf(profile.ownCoherence), mixtureOf(profile.keyCoherence)];
  const part = known(saltOf.key, headDim, own);
  joinFactors(geometry, part, 0, known(saltOf.factor, drawnFactors, shared), 0);
  const share = keyOwn.reduce((sum, x) => sum + x * x, 0) / headDim;
  const squareOf = ({ identity, word }: Mixture): number => identity * identity + word * word;
  const norm = Math.max(leastNorm, Math.sqrt(share * squareOf(own) + (1 - share) * squareOf(shared)));
  return { norm, unit: part.map((x) => x / norm) };
}
