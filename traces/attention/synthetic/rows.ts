/**
 * Keys and values of one head of a synthetic trace, in blocks of 64 tokens with a random stream each, so that any part
 * can be made without the rest. A key is the head's mean, plus its deviation times a unit normal that is shared along
 * the text as the profile says, rotated to its position.
 */
import { exp, log } from '../../../sim/engine/math.ts';
import { createRandom, type Random } from '../../../sim/engine/random.ts';
import { rotateRows } from '../../../sim/trace/rope.ts';
import type { Coherence } from '../presets/preset.ts';
import type { HeadGeometry } from './geometry.ts';
import { isEvidence, placeInText, type RegionBounds } from './regions.ts';
import { lengthAt } from './roundness.ts';
import type { SyntheticText } from './text.ts';

export const blockTokens = 64;

const normalEntries = 65536;
/** Windows are at most so many heads wide: a set of twelve factors for every pair of channels. */
const mostWindows = 6;

export interface RowSource {
  readonly layer: number;
  readonly kvHead: number;
  readonly seed: number;
  readonly headDim: number;
  readonly promptTokens: number;
  readonly text: SyntheticText;
  readonly geometry: HeadGeometry;
  readonly frequencies: Float64Array;
  /** normalEntries and a window's width more of normals; the vector of a word or identity is a window of it, so none is stored. */
  readonly normals: Float32Array;
}

export function createNormals(headDim: number, seed: number): Float32Array {
  const normals = new Float32Array(normalEntries + mostWindows * headDim);
  createRandom(seed, 'identities').fillNormal(normals);
  return normals;
}

/** What a window of normals stands for; salts tell keys, values and each query head's own apart. */
export const partOf = { identity: 0, word: 1, sentence: 2, passage: 3, standing: 4 } as const;
export const saltOf = { key: 0, value: 1, factor: 2, query: 3 } as const;

/** Start of the window of normals of item `id` of a part. */
export function windowAt(source: RowSource, part: number, salt: number, id: number): number {
  const stream = ((source.layer * 1024 + source.kvHead) * 256 + salt) * 8 + part + 1;
  const head = Math.imul(stream, 0x9e3779b1);
  const mixed = Math.imul((id + 1) ^ (head >>> 7), 0x85ebca6b) ^ head;
  return (Math.imul(mixed ^ (mixed >>> 15), 0xc2b2ae35) >>> 16) & (normalEntries - 1);
}

/** Square roots of the shares, and of what is left for each token alone. */
export interface Mixture {
  readonly identity: number;
  readonly word: number;
  readonly sentence: number;
  readonly passage: number;
  readonly own: number;
}

export function mixtureOf({ identity, word, sentence, passage }: Coherence): Mixture {
  return {
    identity: Math.sqrt(identity),
    word: Math.sqrt(word),
    sentence: Math.sqrt(sentence),
    passage: Math.sqrt(passage),
    own: Math.sqrt(Math.max(0, 1 - identity - word - sentence - passage)),
  };
}

/** Strengths that calibration may change: of a head's queries, and nats by which salient tokens and the sink stand out. */
export interface HeadScales {
  readonly focus: number;
  /** How far keys' deviations are brought to one length in the channels that logits hang on: 0 = not, 1 = all. */
  readonly roundness: number;
  /** Added to each query head's correlation with its own token's key. */
  readonly selfShift: number;
  /** Share of the tokens that are salient, and their nats. */
  readonly salientRatio: number;
  readonly salientNats: number;
  /** Share of its own deviation, and of what turns with distance, that a salient key keeps: salient tokens are alike anywhere. */
  readonly salientSpread: number;
  /** By which the end of the text stands above its beginning. */
  readonly lateNats: number;
  readonly sinkNats: number;
  readonly evidenceNats: number;
  /** By which a question's and an answer's tokens stand out beyond what their moments say. */
  readonly questionNats: number;
  readonly answerNats: number;
}

/** Fills post-RoPE keys of tokens first .. first + dst.length / headDim; `first` is a multiple of blockTokens. */
export function fillKeys(source: RowSource, scales: HeadScales, first: number, dst: Float32Array): void {
  const { headDim, layer, kvHead, seed, geometry } = source;
  for (let at = 0; at < dst.length; at += blockTokens * headDim) {
    const block = dst.subarray(at, at + blockTokens * headDim);
    const start = first + at / headDim;
    drawDeviations(
      source,
      createRandom(seed, `k.${layer}.${kvHead}.${start / blockTokens}`),
      block,
      start,
      1,
    );
    roundKeys(geometry, scales.roundness, block);
    dressKeys(source, scales, block, start);
    rotateRows(block, block.length / headDim, source.frequencies, start, 1);
  }
}

/** Turns rows of normals into unit normals that tokens first, first + stride, … share along the text. */
function mixRows(
  source: RowSource,
  coherence: Coherence,
  salt: number,
  rows: Float32Array,
  first: number,
  stride: number,
  width: number = source.headDim,
): void {
  const { text, normals } = source;
  const { identity, word, sentence, passage, own } = mixtureOf(coherence);
  const base = new Float64Array(width);
  let [lastSentence, lastPassage] = [-1, -1];
  for (let at = 0, token = first; at < rows.length; at += width, token += stride) {
    if (text.sentences[token] !== lastSentence || text.passages[token] !== lastPassage) {
      lastSentence = text.sentences[token];
      lastPassage = text.passages[token];
      const a = windowAt(source, partOf.sentence, salt, lastSentence);
      const b = windowAt(source, partOf.passage, salt, lastPassage);
      for (let c = 0; c < width; c++) base[c] = sentence * normals[a + c] + passage * normals[b + c];
    }
    const a = windowAt(source, partOf.word, salt, text.words[token]);
    const b = windowAt(source, partOf.identity, salt, text.types[token]);
    for (let c = 0; c < width; c++) {
      rows[at + c] = own * rows[at + c] + word * normals[a + c] + identity * normals[b + c] + base[c];
    }
  }
}

/** Unit deviations of unrotated keys of tokens first, first + stride, … */
export function drawDeviations(
  source: RowSource,
  random: Random,
  rows: Float32Array,
  first: number,
  stride: number,
): void {
  const { headDim, geometry } = source;
  const { drawnFactors, profile } = geometry;
  random.fillNormal(rows);
  mixRows(source, profile.ownCoherence, saltOf.key, rows, first, stride);
  const factors = new Float32Array((rows.length / headDim) * drawnFactors);
  random.fillNormal(factors);
  mixRows(source, profile.keyCoherence, saltOf.factor, factors, first, stride, drawnFactors);
  for (let at = 0, from = 0; at < rows.length; at += headDim, from += drawnFactors)
    joinFactors(geometry, rows, at, factors, from);
}

/** Unit deviations become those of keys, brought nearer to one length or farther from it. */
export function roundKeys(
  { keyDeviation, logitWeights }: HeadGeometry,
  roundness: number,
  rows: Float32Array,
): void {
  const width = keyDeviation.length;
  for (let at = 0; at < rows.length; at += width) {
    const size = exp(-roundness * log(lengthAt(logitWeights, rows, at)));
    for (let c = 0; c < width; c++) rows[at + c] *= size * keyDeviation[c];
  }
}

/** Channels of their own at `at`, and factors at `from`, become unit deviations that go together as the profile says. */
export function joinFactors(
  { keyOwn, keyLoadings, factorFrom }: HeadGeometry,
  rows: Float32Array | Float64Array,
  at: number,
  factors: Float32Array | Float64Array,
  from: number,
): void {
  const count = keyLoadings.length / keyOwn.length;
  for (let c = 0, i = 0; c < keyOwn.length; c++) {
    let unit = keyOwn[c] * rows[at + c];
    for (let f = from + factorFrom[c], end = f + count; f < end; f++, i++)
      unit += keyLoadings[i] * factors[f];
    rows[at + c] = unit;
  }
}

/** Where a chat template has its marks, in Qwen2.5's system prompt of a few dozen tokens. */
export const markPositions: readonly number[] = [2, 3, 7, 12, 18, 20, 23];

/**
 * How much of what is special in the first tokens' keys is left at a token. In Qwen2.5's captures half at 80-110 tokens, a
 * third at 190, a tenth at 750; in SmolLM2's half at 50-80.
 */
export const earlyAt = (token: number): number => 1 / (1 + token / earlyTokens);
const earlyTokens = 64;

/** Share of the variance of standing out that is a token's, the same to all heads: assumed. */
const sharedStanding = 0.5;

/** A question's or an answer's key: shifted, more or less so. */
function markLandmark(
  source: RowSource,
  scales: HeadScales,
  rows: Float32Array,
  at: number,
  token: number,
): void {
  const { headDim, text, geometry, promptTokens, normals } = source;
  const { profile, questionShift, answerShift, landmarkAxis } = geometry;
  const inQuestion = token < promptTokens;
  const { spreadNats } = inQuestion ? profile.question : profile.answer;
  const shift = inQuestion ? questionShift : answerShift;
  const own = normals[windowAt(source, partOf.standing, saltOf.key, token)];
  const shared = text.standing[token - text.bounds.textTo];
  const spread = Math.sqrt(sharedStanding) * shared + Math.sqrt(1 - sharedStanding) * own;
  const standing = (inQuestion ? scales.questionNats : scales.answerNats) + spreadNats * spread;
  for (let c = 0; c < headDim; c++) rows[at + c] += shift[c] + standing * landmarkAxis[c];
}

/** Nats by which a token stands out along the salient axis, by its identity and by where in the text it is. */
function standingNats(bounds: RegionBounds, scales: HeadScales, token: number, isSalient: boolean): number {
  const salient = isSalient ? scales.salientNats : 0;
  if (token < bounds.textFrom || token >= bounds.textTo) return salient;
  const late = scales.lateNats * (placeInText(bounds, token) - 0.5);
  return salient + late + (isEvidence(bounds, token) ? scales.evidenceNats : 0);
}

/** Deviations of tokens first, first + 1, … become unrotated keys; the first token of all the sink. */
function dressKeys(source: RowSource, scales: HeadScales, rows: Float32Array, first: number): void {
  const { headDim, text, geometry, promptTokens } = source;
  const { keyMean, turningMean, salientAxis, earlyShift, earlyShare, profile } = geometry;
  const raised = salientAxis.map((x) => scales.sinkNats * x);
  const sinkKey = geometry.sinkKey.map((x, c) => x + raised[c]);
  const early = earlyShift.map((x, c) => x + earlyShare * raised[c]);
  for (let at = 0, token = first; at < rows.length; at += headDim, token++) {
    const share = earlyAt(token);
    const isSalient = text.salience[text.types[token]] < scales.salientRatio;
    const own = (1 + share * (profile.earlySpread - 1)) * (isSalient ? scales.salientSpread : 1);
    const still = isSalient ? 1 - scales.salientSpread : 0;
    for (let c = 0; c < headDim; c++)
      rows[at + c] = keyMean[c] - still * turningMean[c] + own * rows[at + c] + share * early[c];
    if (token >= text.bounds.textTo) markLandmark(source, scales, rows, at, token);
    const nats = standingNats(text.bounds, scales, token, isSalient);
    for (let c = 0; c < headDim; c++) rows[at + c] += nats * salientAxis[c];
  }
  if (first !== 0) return;
  const plant = (token: number, share: number): void => {
    const at = token * headDim;
    for (let c = 0; c < headDim; c++) rows[at + c] = keyMean[c] + share * (sinkKey[c] - keyMean[c]);
  };
  plant(0, 1);
  for (const mark of markPositions.slice(0, profile.marks))
    if (mark < promptTokens) plant(mark, profile.markShare);
}

/** Of SmolLM2-135M's values at middle depth; scorers don't read values, so they have no profile of their own. */
const valueCoherence: Coherence = { identity: 0.4, word: 0.1, sentence: 0.1, passage: 0.05 };

/** Values: a mean, identity, coherence and noise, no rotation; the sink's is nearly nothing, as in real models. */
export function fillValues(source: RowSource, first: number, dst: Float32Array): void {
  const { headDim, layer, kvHead, seed, geometry } = source;
  for (let at = 0; at < dst.length; at += blockTokens * headDim) {
    const block = dst.subarray(at, at + blockTokens * headDim);
    const start = first + at / headDim;
    createRandom(seed, `v.${layer}.${kvHead}.${start / blockTokens}`).fillNormal(block);
    mixRows(source, valueCoherence, saltOf.value, block, start, 1);
    for (let row = 0; row < block.length; row += headDim)
      for (let c = 0; c < headDim; c++) block[row + c] += geometry.valueMean[c];
    if (start === 0) for (let c = 0; c < headDim; c++) block[c] *= 0.05;
  }
}
