/**
 * Keys and values of one head of a synthetic trace, in blocks of 64 tokens with a random stream each, so that any part
 * can be made without the rest. A key is the head's mean, plus its passage's topics, plus its token's identity and
 * salience, plus noise of its own, rotated to its position.
 */
import { createRandom } from '../../../sim/engine/random.ts';
import type { KeyProfile } from '../presets/preset.ts';
import type { HeadGeometry } from './geometry.ts';
import { rotateRows } from './rope.ts';
import type { SyntheticText } from './text.ts';

export const blockTokens = 64;
/** Tokens at the start that act as attention sinks. */
export const sinkTokens = 4;
/** Key component of a salient token, and query component of the sink, over sqrt(headDim). */
export const salientKeyNorm = 8;
export const sinkQueryScale = 0.5;

const identityEntries = 65536;

export interface RowSource {
  readonly layer: number;
  readonly kvHead: number;
  readonly seed: number;
  readonly headDim: number;
  readonly text: SyntheticText;
  readonly keys: KeyProfile;
  readonly geometry: HeadGeometry;
  readonly frequencies: Float64Array;
  /** identityEntries + headDim normals; identities are windows of it, so none is stored. */
  readonly identities: Float32Array;
}

export function createIdentities(headDim: number, seed: number): Float32Array {
  const identities = new Float32Array(identityEntries + headDim);
  createRandom(seed, 'identities').fillNormal(identities);
  return identities;
}

/** Fills post-RoPE keys of tokens first .. first + dst.length / headDim; `first` is a multiple of blockTokens. */
export function fillKeys(source: RowSource, sinkKeys: Float64Array, first: number, dst: Float32Array): void {
  const { headDim, layer, kvHead, seed } = source;
  for (let at = 0; at < dst.length; at += blockTokens * headDim) {
    const block = dst.subarray(at, at + blockTokens * headDim);
    const start = first + at / headDim;
    createRandom(seed, `k.${layer}.${kvHead}.${start / blockTokens}`).fillNormal(block);
    dressKeys(source, block, start, 1);
    if (start === 0) plantSinks(source, sinkKeys, block);
    rotateRows(block, block.length / headDim, source.frequencies, start, 1);
  }
}

/** Turns rows of normals into unrotated keys of tokens first, first + stride, … */
export function dressKeys(source: RowSource, rows: Float32Array, first: number, stride: number): void {
  const { headDim, text, geometry, keys } = source;
  const base = new Float64Array(headDim);
  const own = geometry.noise.map((x) => x * Math.sqrt(1 - keys.identityRatio));
  const shared = geometry.noise.map((x) => x * Math.sqrt(keys.identityRatio));
  let passage = -1;
  for (let at = 0, token = first; at < rows.length; at += headDim, token += stride) {
    if (text.passageOf[token] !== passage) {
      passage = text.passageOf[token];
      projectTopics(text, passage, geometry.topicMap, geometry.mean, keys.topicScale, base);
    }
    const type = text.types[token];
    addIdentity(source, rows, at, base, own, shared, identityAt(source, type, 0));
    rows[at + headDim - 1] += salientKeyNorm * geometry.salience[type];
  }
}

/** base = mean + scale · latents of the passage through the map. */
function projectTopics(
  text: SyntheticText,
  passage: number,
  map: Float64Array,
  mean: Float64Array,
  scale: number,
  base: Float64Array,
): void {
  const { rank, latents } = text;
  const width = base.length;
  base.set(mean);
  for (let i = 0; i < rank; i++) {
    const coefficient = scale * latents[passage * rank + i];
    for (let c = 0; c < width; c++) base[c] += coefficient * map[i * width + c];
  }
}

/** Start of an identity's window; a different one for each head, and for values. */
function identityAt(source: RowSource, type: number, salt: number): number {
  const head = Math.imul(source.layer * 1024 + source.kvHead * 2 + salt + 1, 0x9e3779b1);
  const mixed = Math.imul((type + 1) ^ (head >>> 7), 0x85ebca6b) ^ head;
  return (Math.imul(mixed ^ (mixed >>> 15), 0xc2b2ae35) >>> 16) & (identityEntries - 1);
}

function addIdentity(
  source: RowSource,
  rows: Float32Array,
  at: number,
  base: Float64Array,
  own: Float64Array,
  shared: Float64Array,
  window: number,
): void {
  const { identities, headDim } = source;
  for (let c = 0; c < headDim; c++) {
    rows[at + c] = base[c] + own[c] * rows[at + c] + shared[c] * identities[window + c];
  }
}

/** Sink keys lose most of what a normal key has and point along the sink axis. */
export function plantSinks(source: RowSource, sinkKeys: Float64Array, rows: Float32Array): void {
  const { headDim, geometry } = source;
  const sinks = Math.min(sinkTokens, rows.length / headDim);
  for (let token = 0; token < sinks; token++) {
    for (let c = 0; c < headDim; c++) {
      const at = token * headDim + c;
      rows[at] = 0.3 * rows[at] + sinkKeys[token] * geometry.sinkAxis[c];
    }
  }
}

/** Values: topics, identity and noise, no rotation; the sinks' are nearly nothing, as in real models. */
export function fillValues(source: RowSource, first: number, dst: Float32Array): void {
  const { headDim, layer, kvHead, seed, text, geometry } = source;
  const base = new Float64Array(headDim);
  const half = new Float64Array(headDim).fill(Math.sqrt(0.5));
  let passage = -1;
  for (let at = 0; at < dst.length; at += blockTokens * headDim) {
    const block = dst.subarray(at, at + blockTokens * headDim);
    const start = first + at / headDim;
    createRandom(seed, `v.${layer}.${kvHead}.${start / blockTokens}`).fillNormal(block);
    for (let row = 0, token = start; row < block.length; row += headDim, token++) {
      if (text.passageOf[token] !== passage) {
        passage = text.passageOf[token];
        projectTopics(text, passage, geometry.valueMap, geometry.valueMean, 1.5, base);
      }
      addIdentity(source, block, row, base, half, half, identityAt(source, text.types[token], 1));
    }
    if (start === 0) {
      const sinks = Math.min(block.length, sinkTokens * headDim);
      for (let i = 0; i < sinks; i++) block[i] *= 0.05;
    }
  }
}
