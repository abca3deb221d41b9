/**
 * The directions of one KV head in the channels of its keys. A profile leaves each rotary pair's own phase open: here the
 * mean key lies along the pair's first channel, and rotation does the rest.
 */
import { cos, sin } from '../../../sim/engine/math.ts';
import type { Random } from '../../../sim/engine/random.ts';
import type { HeadProfile } from '../presets/preset.ts';
import { meanFarKey } from './rope.ts';

/** A direction, and what vectors tend to that have a component along it: deviations squared times direction. */
export interface Axis {
  readonly along: Float64Array;
  /** Scaled so that its product with `along` is 1. */
  readonly tends: Float64Array;
}

export interface HeadGeometry {
  readonly profile: HeadProfile;
  /** Mean and standard deviation of keys before rotation [headDim]. */
  readonly keyMean: Float64Array;
  readonly keyDeviation: Float64Array;
  /** The group's mean query: logits of near keys along it vary less than channels say. */
  readonly keyAxis: Axis;
  /** Key of the first token before rotation [headDim]. */
  readonly sinkKey: Float64Array;
  /** What a salient token's key has more than others', one nat of it [headDim]. */
  readonly salientAxis: Float64Array;
  /** What the keys of a question's and of an answer's tokens have more than others' [headDim]. */
  readonly questionShift: Float64Array;
  readonly answerShift: Float64Array;
  /** What one of their keys has more that is one nat above another [headDim]. */
  readonly landmarkAxis: Float64Array;
  /** Mean and standard deviation of the group's queries before rotation [group, headDim]. */
  readonly queryMean: Float64Array;
  readonly queryDeviation: Float64Array;
  /** How far queries at the end of the prompt lie from an answer's [group, headDim]. */
  readonly promptShift: Float64Array;
  /** By query head: the mean key as met on average over far keys, and what near keys have beside it. */
  readonly farAxes: readonly Axis[];
  readonly nearAxes: readonly Axis[];
  readonly valueMean: Float64Array;
}

/** `tokens` of the whole trace: how far salience has to reach. */
export function drawGeometry(
  headDim: number,
  frequencies: Float64Array,
  tokens: number,
  profile: HeadProfile,
  random: Random,
): HeadGeometry {
  const { keyDeviation, queries } = profile;
  const keyMean = place(profile.keyMean, null);
  const queryMean = new Float64Array(queries.length * headDim);
  const queryDeviation = new Float64Array(queries.length * headDim);
  for (const [head, query] of queries.entries()) {
    queryMean.set(place(query.mean, query.phase), head * headDim);
    queryDeviation.set(query.deviation, head * headDim);
  }
  const meanQuery = groupMean(queryMean, headDim);
  const farKey = meanFarKey(keyMean, frequencies, tokens);
  const nearKey = keyMean.map((x, c) => x - farKey[c]);
  const keyAxis = axisOf(meanQuery, keyDeviation);
  return {
    profile,
    keyMean,
    keyDeviation,
    keyAxis,
    sinkKey: place(profile.sinkKey, profile.sinkPhase),
    questionShift: profile.question.shift.map((x, c) => x * keyDeviation[c]),
    answerShift: profile.answer.shift.map((x, c) => x * keyDeviation[c]),
    landmarkAxis: slowAxis(meanQuery, keyDeviation, frequencies, landmarkReachTokens),
    promptShift: Float64Array.from(
      queries.flatMap(({ promptShift, deviation }) => Array.from(promptShift, (x, c) => x * deviation[c])),
    ),
    salientAxis: slowAxis(meanQuery, keyDeviation, frequencies, tokens),
    queryMean,
    queryDeviation,
    farAxes: queries.map(({ deviation }) => axisOf(farKey, deviation)),
    nearAxes: queries.map(({ deviation }) => axisOf(nearKey, deviation)),
    valueMean: Float64Array.from({ length: headDim }, () => 0.3 * random.normal()),
  };
}

/** Channels of pairs with these moduli and phases; without phases, along the first channel of each. */
export function place(moduli: Float64Array, phases: Float64Array | null): Float64Array {
  const pairs = moduli.length;
  const channels = new Float64Array(2 * pairs);
  for (let pair = 0; pair < pairs; pair++) {
    const phase = phases === null ? 0 : phases[pair];
    channels[pair] = moduli[pair] * cos(phase);
    channels[pair + pairs] = moduli[pair] * sin(phase);
  }
  return channels;
}

/** Mean over the rows of [group, width]. */
export function groupMean(rows: Float64Array, width: number): Float64Array {
  const mean = new Float64Array(width);
  for (let i = 0; i < rows.length; i++) mean[i % width] += (rows[i] * width) / rows.length;
  return mean;
}

export function axisOf(along: Float64Array, deviation: Float64Array): Axis {
  const tends = along.map((x, c) => x * deviation[c] * deviation[c]);
  const square = tends.reduce((sum, x, c) => sum + x * along[c], 0);
  return { along, tends: square > 0 ? tends.map((x) => x / square) : tends };
}

/** Scales the component of vectors [count, width] along an axis, with what it tends to bring along. */
export function scaleAlong(axis: Axis, factor: number, vectors: Float32Array, at: number): void {
  const { along, tends } = axis;
  const width = along.length;
  let component = 0;
  for (let c = 0; c < width; c++) component += vectors[at + c] * along[c];
  const excess = (1 - factor) * component;
  for (let c = 0; c < width; c++) vectors[at + c] -= excess * tends[c];
}

/** Most that one nat may move a vector, in standard deviations: where mean queries say little, little is salient. */
const mostDeviations = 3;

/** Tokens over which a question or an answer is looked back at. */
const landmarkReachTokens = 128;

/**
 * What vectors of these deviations tend to when their logit with `towards` is one nat above the mean: keys under the
 * group's mean query, say. Of the pairs that turn by less than a quarter over `tokens` (four at least), so that it
 * stands out from anywhere in reach.
 */
function slowAxis(
  towards: Float64Array,
  deviation: Float64Array,
  frequencies: Float64Array,
  tokens: number,
): Float64Array {
  const pairs = frequencies.length;
  const slow = towards.map((x, c) => {
    const pair = c % pairs;
    return frequencies[pair] * tokens > Math.PI / 2 && pair < pairs - 4 ? 0 : x;
  });
  // Turned halfway, so that it stands out as much near by as far away.
  const turned = new Float64Array(slow.length);
  for (let pair = 0; pair < pairs; pair++) {
    const angle = (frequencies[pair] * tokens) / 2;
    const [x, y] = [slow[pair], slow[pair + pairs]];
    turned[pair] = x * cos(angle) - y * sin(angle);
    turned[pair + pairs] = x * sin(angle) + y * cos(angle);
  }
  const axis = axisOf(turned, deviation).tends.map((x) => x * Math.sqrt(2 * pairs));
  let square = 0;
  for (let c = 0; c < axis.length; c++) square += (axis[c] * axis[c]) / (deviation[c] * deviation[c]);
  const most = mostDeviations / Math.max(mostDeviations, Math.sqrt(square));
  return axis.map((x) => x * most);
}
