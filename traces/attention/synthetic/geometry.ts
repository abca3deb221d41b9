/**
 * The directions of one KV head in the channels of its keys, and how these go together.
 */
import { cos, sin } from '../../../sim/engine/math.ts';
import type { Random } from '../../../sim/engine/random.ts';
import type { HeadProfile } from '../presets/preset.ts';
import { meanFarKey } from './rope.ts';
import { logitWeights } from './roundness.ts';

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
  /** How much logits hang on each channel of the deviation, mean 1 [headDim]. */
  readonly logitWeights: Float64Array;
  /** What each channel's unit deviation has of its own, and of the factors [headDim, factors]. */
  readonly keyOwn: Float64Array;
  readonly keyLoadings: Float64Array;
  /** Where a channel's factors begin among all that a key draws, and how many those are. */
  readonly factorFrom: Int32Array;
  readonly drawnFactors: number;
  /** Key of the first token before rotation [headDim]. */
  readonly sinkKey: Float64Array;
  /** What keys of the first tokens have more than others', and how far that lies on the way to the sink's key. */
  readonly earlyShift: Float64Array;
  readonly earlyShare: number;
  /** The mean key's part that turns with distance: a salient token's key has less of it, as it is met anywhere alike. */
  readonly turningMean: Float64Array;
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

/** `tokens` of the whole trace: how far salience has to reach; `spread` times the profile's is the size of keys' deviations. */
export function drawGeometry(
  headDim: number,
  frequencies: Float64Array,
  tokens: number,
  profile: HeadProfile,
  spread: number,
  random: Random,
): HeadGeometry {
  const { queries } = profile;
  const keyDeviation = profile.keyDeviation.map((x) => x * spread);
  const keyMean = place(profile.keyMean, profile.keyPhase);
  const queryMean = new Float64Array(queries.length * headDim);
  const queryDeviation = new Float64Array(queries.length * headDim);
  for (const [head, query] of queries.entries()) {
    queryMean.set(place(query.mean, query.phase), head * headDim);
    queryDeviation.set(query.deviation, head * headDim);
  }
  const meanQuery = groupMean(queryMean, headDim);
  const farKey = meanFarKey(keyMean, frequencies, tokens);
  const nearKey = keyMean.map((x, c) => x - farKey[c]);
  const sinkKey = place(profile.sinkKey, profile.sinkPhase);
  const earlyShift = place(profile.earlyKey, profile.earlyPhase).map((x, c) => x - keyMean[c]);
  return {
    profile,
    keyMean,
    keyDeviation,
    logitWeights: logitWeights(profile),
    ...factorsOf(profile),
    sinkKey,
    earlyShift,
    earlyShare: shareAlong(
      earlyShift,
      sinkKey.map((x, c) => x - keyMean[c]),
    ),
    questionShift: profile.question.shift.map((x, c) => x * profile.keyDeviation[c]),
    answerShift: profile.answer.shift.map((x, c) => x * profile.keyDeviation[c]),
    landmarkAxis: slowAxis(meanQuery, keyDeviation, frequencies, landmarkReachTokens),
    promptShift: Float64Array.from(
      queries.flatMap(({ promptShift, deviation }) => Array.from(promptShift, (x, c) => x * deviation[c])),
    ),
    turningMean: keyMean.map((x, c) => (isSlow(frequencies, tokens, c % frequencies.length) ? 0 : x)),
    salientAxis: slowAxis(meanQuery, keyDeviation, frequencies, tokens),
    queryMean,
    queryDeviation,
    farAxes: queries.map(({ deviation }) => axisOf(farKey, deviation)),
    nearAxes: queries.map(({ deviation }) => axisOf(nearKey, deviation)),
    valueMean: Float64Array.from({ length: headDim }, () => 0.3 * random.normal()),
  };
}

/** Channels of pairs with these moduli and phases. */
export function place(moduli: Float64Array, phases: Float64Array): Float64Array {
  const pairs = moduli.length;
  const channels = new Float64Array(2 * pairs);
  for (let pair = 0; pair < pairs; pair++) {
    channels[pair] = moduli[pair] * cos(phases[pair]);
    channels[pair + pairs] = moduli[pair] * sin(phases[pair]);
  }
  return channels;
}

type Factors = Pick<HeadGeometry, 'keyOwn' | 'keyLoadings' | 'factorFrom' | 'drawnFactors'>;

function factorsOf({ keyLoadings, keySets, keyDeviation }: HeadProfile): Factors {
  const channels = keyDeviation.length;
  const factors = keyLoadings.length / channels;
  const factorFrom = Int32Array.from(keyDeviation, (_, c) => keySets[c % keySets.length] * factors);
  const keyOwn = keyDeviation.map((_, c) => {
    const row = keyLoadings.subarray(c * factors, (c + 1) * factors);
    return Math.sqrt(Math.max(0, 1 - row.reduce((sum, x) => sum + x * x, 0)));
  });
  const drawnFactors = factorFrom.reduce((most, from) => Math.max(most, from), 0) + factors;
  return { keyOwn, keyLoadings, factorFrom, drawnFactors };
}

/** How far a vector reaches along a way, 0 .. 1. */
function shareAlong(vector: Float64Array, way: Float64Array): number {
  const square = way.reduce((sum, x) => sum + x * x, 0);
  const along = vector.reduce((sum, x, c) => sum + x * way[c], 0);
  return square > 0 ? Math.min(1, Math.max(0, along / square)) : 0;
}

/** Mean over the rows of [group, width]. */
function groupMean(rows: Float64Array, width: number): Float64Array {
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

/** Whether a pair turns by less than an eighth over `tokens`, or is one of the four slowest. */
const isSlow = (frequencies: Float64Array, tokens: number, pair: number): boolean =>
  frequencies[pair] * tokens <= Math.PI / 4 || pair >= frequencies.length - 4;

/**
 * What vectors of these deviations tend to when their logit with `towards` is one nat above the mean: keys under the
 * group's mean query, say. Of the slow pairs, so that it
 * stands out from anywhere in reach.
 */
function slowAxis(
  towards: Float64Array,
  deviation: Float64Array,
  frequencies: Float64Array,
  tokens: number,
): Float64Array {
  const pairs = frequencies.length;
  const slow = towards.map((x, c) => (isSlow(frequencies, tokens, c % pairs) ? x : 0));
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
