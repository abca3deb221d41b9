/**
 * Queries of one KV head's group over steps: an interest in topics that persists from step to step, is partly common
 * to the group, and at times turns to one far passage; fixed token preferences; and something new in each query.
 */
import { createRandom } from '../../../sim/engine/random.ts';
import type { ClassProfile } from '../presets/preset.ts';
import type { HeadGeometry } from './geometry.ts';
import { type RowSource, salientKeyNorm, sinkQueryScale } from './rows.ts';

/** What calibration solves for: how strongly a query weighs each of its parts, in nats of logit. */
export interface HeadScales {
  readonly content: number;
  readonly salient: number;
  readonly kernel: number;
  /** Component of each sink token's key along the sink axis. */
  readonly sinkKeys: Float64Array;
}

export interface QuerySource {
  readonly rows: RowSource;
  readonly group: number;
  readonly profile: ClassProfile;
  /** Position of step 0, and steps before it that the prompt window covers. */
  readonly promptTokens: number;
  readonly windowTokens: number;
  readonly steps: number;
  /** Interests [windowTokens + steps, group, rank], then the passage latched to [windowTokens + steps]. */
  interests(): Float32Array;
}

/** Passage that the head is latched to at a step. */
export function latchedPassage(source: QuerySource, step: number): number {
  const interests = source.interests();
  return interests[interests.length - source.steps + step];
}

/** Interests of all steps, the prompt's window first, and the latched passages behind them. AR(1) in time; shared by agreement; latched to a passage. */
export function drawInterests(source: Omit<QuerySource, 'interests'>): Float32Array {
  const { rows, group, profile, promptTokens, windowTokens, steps } = source;
  const { text, layer, kvHead, seed } = rows;
  const rank = text.rank;
  const random = createRandom(seed, `interest.${layer}.${kvHead}`);
  const state = new Float32Array((group + 1) * rank);
  const fresh = new Float32Array(state.length);
  random.fillNormal(state);
  const keep = profile.persistence;
  const renew = Math.sqrt(1 - keep * keep);
  const common = Math.sqrt(profile.agreement);
  const own = Math.sqrt(1 - profile.agreement);
  const rest = Math.sqrt(1 - profile.latch * profile.latch - profile.here * profile.here);
  const interests = new Float32Array((windowTokens + steps) * (group * rank + 1));
  let target = -1;
  for (let at = 0; at < windowTokens + steps; at++) {
    const position = promptTokens - windowTokens + at;
    const here = text.passageOf[position];
    if (target < 0 || random.uniform() < profile.jumpRatio) target = random.integer(Math.max(1, here));
    interests[(windowTokens + steps) * group * rank + at] = target;
    random.fillNormal(fresh);
    for (let i = 0; i < state.length; i++) state[i] = keep * state[i] + renew * fresh[i];
    for (let head = 0; head < group; head++) {
      for (let i = 0; i < rank; i++) {
        const drift = common * state[i] + own * state[(head + 1) * rank + i];
        const far = profile.latch * text.latents[target * rank + i];
        const near = profile.here * text.latents[here * rank + i];
        interests[(at * group + head) * rank + i] = rest * drift + far + near;
      }
    }
  }
  return interests;
}

/**
 * Content part of the group's queries at a step, unrotated [group, headDim]: its logits have a standard deviation of
 * about 1 over the keys, split between topics, fixed preferences and the new as the class says.
 */
export function contentQueries(source: QuerySource, step: number): Float64Array {
  const { rows, group, profile } = source;
  const { headDim, text, geometry, keys, layer, kvHead, seed } = rows;
  const rank = text.rank;
  const interests = source.interests();
  const at = (source.windowTokens + step) * group * rank;
  const signal = keys.topicScale * keys.topicScale + 1;
  const topical = Math.sqrt((profile.topicRatio * headDim) / (rank * signal));
  const fixed = Math.sqrt(profile.staticRatio);
  const fresh = Math.sqrt(profile.freshRatio);
  const preferences = new Float32Array((group + 1) * headDim);
  createRandom(seed, `preference.${layer}.${kvHead}`).fillNormal(preferences);
  const noise = new Float32Array(group * headDim);
  createRandom(seed, `q.${layer}.${kvHead}.${step}`).fillNormal(noise);
  const common = Math.sqrt(profile.agreement);
  const own = Math.sqrt(1 - profile.agreement);
  const queries = new Float64Array(group * headDim);
  for (let head = 0; head < group; head++) {
    const q = queries.subarray(head * headDim, (head + 1) * headDim);
    for (let c = 0; c < headDim; c++) {
      const preference = common * preferences[c] + own * preferences[(head + 1) * headDim + c];
      q[c] = fixed * preference + fresh * noise[head * headDim + c];
    }
    for (let i = 0; i < rank; i++) {
      const coefficient = topical * interests[at + head * rank + i];
      for (let c = 0; c < headDim; c++) q[c] += coefficient * geometry.topicMap[i * headDim + c];
    }
    clearAxes(q, geometry);
  }
  return queries;
}

/** Sink and salience have a component of their own in the query; content must not blur them. */
function clearAxes(q: Float64Array, geometry: HeadGeometry): void {
  for (let c = 0; c < q.length; c++) if (geometry.sinkAxis[c] + geometry.salientAxis[c] > 0) q[c] = 0;
}

/** The part of every query that never changes: the sink's pull and some of the keys' mean. */
export function constantQuery(geometry: HeadGeometry): Float64Array {
  const sink = sinkQueryScale * Math.sqrt(geometry.mean.length);
  return geometry.slowMean.map((x, c) => 0.3 * x + sink * geometry.sinkAxis[c]);
}

/** Query component that gives a token of salience 1 one nat. */
export function salientQuery(geometry: HeadGeometry): Float64Array {
  const scale = Math.sqrt(geometry.mean.length) / salientKeyNorm;
  return geometry.salientAxis.map((x) => x * scale);
}

/** Unrotated queries of the group at a step [group, headDim]; `step` may be -windowTokens .. -1 for the prompt. */
export function groupQueries(source: QuerySource, scales: HeadScales, step: number): Float32Array {
  const { geometry, headDim } = source.rows;
  const content = contentQueries(source, step);
  const constant = constantQuery(geometry);
  const salient = salientQuery(geometry);
  const queries = new Float32Array(content.length);
  for (let i = 0; i < content.length; i++) {
    const c = i % headDim;
    queries[i] =
      scales.content * content[i] +
      scales.salient * salient[c] +
      scales.kernel * geometry.kernel[c] +
      constant[c];
  }
  return queries;
}
