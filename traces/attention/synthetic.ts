/**
 * A synthetic attention trace with keys, values and queries on which real scorers run: any model shape, any length,
 * made head by head when asked, so memory stays bounded. Statistics come from a preset (presets/), geometry from
 * synthetic/. Arrays may come from a cache and are to be read only.
 */
import { digestOfJson } from '../../sim/engine/digest.ts';
import { createRandom, type Random } from '../../sim/engine/random.ts';
import type { AttentionTrace, AttentionTraceShape } from '../../sim/trace/attention-trace.ts';
import { ropeFrequencies, rotateRows } from '../../sim/trace/rope.ts';
import { TraceError } from '../error.ts';
import { ArrayCache } from './lru.ts';
import type { HeadPlan } from './presets/preset.ts';
import { encodeProfile } from './presets/profile-code.ts';
import { calibrateHead } from './synthetic/calibrate.ts';
import { drawGeometry } from './synthetic/geometry.ts';
import { groupQueries } from './synthetic/queries.ts';
import { answerTokens } from './synthetic/regions.ts';
import { effectiveTheta } from './synthetic/rope.ts';
import { createNormals, fillKeys, fillValues, type HeadScales, type RowSource } from './synthetic/rows.ts';
import { type ResolvedSpec, resolveSpec, type SyntheticSpec } from './synthetic/spec.ts';
import { createText, type SyntheticText } from './synthetic/text.ts';

/** Part of every digest: raised whenever the same specification would give other numbers. */
const generatorVersion = 'kvtier.synthetic/5';

const promptWindowTokens = 64;

export interface SyntheticTrace extends AttentionTrace {
  /** What the head was made from; the trace itself is the truth. */
  plan(layer: number, kvHead: number): HeadPlan;
}

export interface SyntheticOptions {
  /** Bytes of generated arrays to keep; default 512 MiB. The newest array is always kept. */
  readonly cacheBytes?: number;
}

interface Head {
  readonly plan: HeadPlan;
  readonly rows: RowSource;
  readonly scales: HeadScales;
}

/** Throws TraceError `invalid-input` on a bad specification. Nothing large is made before it is asked for. */
export function createSyntheticTrace(input: SyntheticSpec, options: SyntheticOptions = {}): SyntheticTrace {
  return traceOf(resolveSpec(input), options);
}

/** The trace of a specification whose preset need not be in the catalog. */
export function traceOf(spec: ResolvedSpec, options: SyntheticOptions = {}): SyntheticTrace {
  const { model } = spec;
  const { layers, heads, kvHeads, headDim } = spec.shape;
  const { promptTokens, steps, recordedLayers } = spec;
  const shape: AttentionTraceShape = { layers, heads, kvHeads, headDim, promptTokens, steps, recordedLayers };
  const cache = new ArrayCache(options.cacheBytes ?? 512 * 2 ** 20);
  const frequencies = ropeFrequencies(headDim, effectiveTheta(spec.shape.ropeTheta, promptTokens + steps));
  const headOf = createHeads(spec, frequencies);
  let digest: string | null = null;
  const about = spec.task === null ? model : `${model}, ${spec.task}`;
  const name = `synthetic ${about}, ${promptTokens} tokens, seed ${spec.seed}`;
  const windowTokens = Math.min(promptWindowTokens, promptTokens);
  const head = (layer: number, kvHead: number): Head => {
    checkIndex(name, 'kvHead', kvHead, kvHeads);
    if (recordedLayers.includes(layer)) return headOf(layer, kvHead);
    throw new TraceError(
      'missing',
      `${name}: layer ${layer}: not recorded (recorded: ${recordedLayers.join(', ')})`,
    );
  };
  const rowsOf = (kind: 'k' | 'v', layer: number, kvHead: number): Float32Array => {
    const { rows, scales } = head(layer, kvHead);
    return cache.get(`${kind}.${layer}.${kvHead}`, () => {
      const data = new Float32Array((promptTokens + steps) * headDim);
      if (kind === 'k') fillKeys(rows, scales, 0, data);
      else fillValues(rows, 0, data);
      return data;
    });
  };
  const queriesAt = (layer: number, step: number, kvHead: number): Float32Array => {
    const { rows, scales } = head(layer, kvHead);
    const group = groupQueries(rows, promptTokens + step, scales);
    rotateRows(group, group.length / headDim, rows.frequencies, promptTokens + step, 0);
    return group;
  };
  return {
    name,
    shape,
    model,
    rope: { frequencies, gapToken: 0, gapTokens: 0 },
    get digest() {
      digest ??= digestOf(spec);
      return digest;
    },
    has: (field, layer) => ['k', 'v', 'q', 'qprompt'].includes(field) && recordedLayers.includes(layer),
    keys: (layer, kvHead) => rowsOf('k', layer, kvHead),
    values: (layer, kvHead) => rowsOf('v', layer, kvHead),
    queries(layer, step, kvHead) {
      checkIndex(name, 'step', step, steps);
      return cache.get(`q.${layer}.${step}.${kvHead}`, () => queriesAt(layer, step, kvHead));
    },
    promptQueries(layer, kvHead) {
      const q = cache.get(`qprompt.${layer}.${kvHead}`, () => {
        const size = (heads / kvHeads) * headDim;
        const data = new Float32Array(windowTokens * size);
        for (let at = 0; at < windowTokens; at++)
          data.set(queriesAt(layer, at - windowTokens, kvHead), at * size);
        return data;
      });
      return { windowTokens, q };
    },
    prefillMass(layer) {
      throw new TraceError('missing', `${name}: prefillMass.${layer}: not recorded in a synthetic trace`);
    },
    blockMass(layer) {
      throw new TraceError('missing', `${name}: mass.${layer}: not recorded in a synthetic trace`);
    },
    learnedScores(field, layer) {
      throw new TraceError('missing', `${name}: ${field}.${layer}: not recorded in a synthetic trace`);
    },
    plan: (layer, kvHead) => head(layer, kvHead).plan,
  };
}

/** Covers the specification and all that its preset says, so a preset can change without a new name. */
function digestOf({ preset, ...spec }: ResolvedSpec): string {
  const plans = spec.recordedLayers.map((layer) =>
    Array.from({ length: spec.shape.kvHeads }, (_, kvHead) => {
      const { profile, ...wanted } = preset.plan(
        spec.shape,
        layer,
        kvHead,
        headRandom(spec.seed, layer, kvHead),
        spec.task,
      );
      return { profile: encodeProfile(profile), ...wanted };
    }),
  );
  return digestOfJson({ generator: generatorVersion, ...spec, text: preset.text(spec.task), plans });
}

const headRandom = (seed: number, layer: number, kvHead: number): Random =>
  createRandom(seed, `head.${layer}.${kvHead}`);

function checkIndex(name: string, what: string, index: number, count: number): void {
  if (Number.isInteger(index) && index >= 0 && index < count) return;
  throw new TraceError('invalid-input', `${name}: ${what}: expected 0..${count - 1}, found ${index}`);
}

/** Draws and calibrates each head on first use, and keeps the small part of it for good. */
function createHeads(spec: ResolvedSpec, frequencies: Float64Array): (layer: number, kvHead: number) => Head {
  const { preset, task, shape, promptTokens, steps, seed } = spec;
  const { headDim } = shape;
  const tokens = promptTokens + steps;
  const heads = new Map<string, Head>();
  let text: SyntheticText | null = null;
  let normals: Float32Array | null = null;
  const create = (layer: number, kvHead: number): Head => {
    text ??= createText(preset.text(task), promptTokens, Math.max(steps, answerTokens), seed);
    normals ??= createNormals(headDim, seed);
    const random = headRandom(seed, layer, kvHead);
    const plan = preset.plan(shape, layer, kvHead, random, task);
    const geometry = drawGeometry(
      headDim,
      frequencies,
      tokens,
      plan.profile,
      plan.attended.textSpread,
      random,
    );
    const rows: RowSource = {
      layer,
      kvHead,
      seed,
      headDim,
      promptTokens,
      text,
      geometry,
      frequencies,
      normals,
    };
    return { plan, rows, scales: calibrateHead(rows, steps, plan) };
  };
  return (layer, kvHead) => {
    const key = `${layer}.${kvHead}`;
    const head = heads.get(key) ?? create(layer, kvHead);
    heads.set(key, head);
    return head;
  };
}
