/**
 * A synthetic attention trace with keys, values and queries on which real scorers run: any model shape, any length,
 * made head by head when asked, so memory stays bounded. Statistics come from a preset (presets/), geometry from
 * synthetic/. Arrays may come from a cache and are to be read only.
 */
import { digestOfJson } from '../../sim/engine/digest.ts';
import { createRandom, type Random } from '../../sim/engine/random.ts';
import type { AttentionTrace, AttentionTraceShape } from '../../sim/trace/attention-trace.ts';
import { TraceError } from '../error.ts';
import { ArrayCache } from './lru.ts';
import type { HeadTarget } from './presets/preset.ts';
import { calibrateHead } from './synthetic/calibrate.ts';
import { drawGeometry, topicRank } from './synthetic/geometry.ts';
import { drawInterests, groupQueries, type HeadScales, type QuerySource } from './synthetic/queries.ts';
import { effectiveTheta, ropeFrequencies, rotateRows } from './synthetic/rope.ts';
import { createIdentities, fillKeys, fillValues, type RowSource } from './synthetic/rows.ts';
import { type ResolvedSpec, resolveSpec, type SyntheticSpec } from './synthetic/spec.ts';
import { createText, type SyntheticText } from './synthetic/text.ts';

/** Part of every digest: raised whenever the same specification would give other numbers. */
const generatorVersion = 'kvtier.synthetic/1';

const promptWindowTokens = 64;

export interface SyntheticTrace extends AttentionTrace {
  /** What the head was calibrated to; the trace itself is the truth. */
  target(layer: number, kvHead: number): HeadTarget;
}

export interface SyntheticOptions {
  /** Bytes of generated arrays to keep; default 512 MiB. The newest array is always kept. */
  readonly cacheBytes?: number;
}

interface Head {
  readonly target: HeadTarget;
  readonly rows: RowSource;
  readonly queries: QuerySource;
  readonly scales: HeadScales;
}

/** Throws TraceError `invalid-input` on a bad specification. Nothing large is made before it is asked for. */
export function createSyntheticTrace(input: SyntheticSpec, options: SyntheticOptions = {}): SyntheticTrace {
  const spec = resolveSpec(input);
  const { model } = spec;
  const { layers, heads, kvHeads, headDim } = spec.shape;
  const { promptTokens, steps, recordedLayers } = spec;
  const shape: AttentionTraceShape = { layers, heads, kvHeads, headDim, promptTokens, steps, recordedLayers };
  const cache = new ArrayCache(options.cacheBytes ?? 512 * 2 ** 20);
  const headOf = createHeads(spec, cache);
  let digest: string | null = null;
  const name = `synthetic ${model}, ${promptTokens} tokens, seed ${spec.seed}`;
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
      if (kind === 'k') fillKeys(rows, scales.sinkKeys, 0, data);
      else fillValues(rows, 0, data);
      return data;
    });
  };
  const queriesAt = (layer: number, step: number, kvHead: number): Float32Array => {
    const { queries, scales, rows } = head(layer, kvHead);
    const group = groupQueries(queries, scales, step);
    rotateRows(group, group.length / headDim, rows.frequencies, promptTokens + step, 0);
    return group;
  };
  return {
    name,
    shape,
    model,
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
    target: (layer, kvHead) => head(layer, kvHead).target,
  };
}

/** Covers the specification and all that its preset says, so a preset can change without a new name. */
function digestOf({ preset, ...spec }: ResolvedSpec): string {
  const { text, keys, classes } = preset;
  const targets = spec.recordedLayers.map((layer) =>
    Array.from({ length: spec.shape.kvHeads }, (_, kvHead) =>
      preset.target(spec.shape, layer, kvHead, headRandom(spec.seed, layer, kvHead)),
    ),
  );
  return digestOfJson({ generator: generatorVersion, ...spec, text, keys, classes, targets });
}

const headRandom = (seed: number, layer: number, kvHead: number): Random =>
  createRandom(seed, `head.${layer}.${kvHead}`);

function checkIndex(name: string, what: string, index: number, count: number): void {
  if (Number.isInteger(index) && index >= 0 && index < count) return;
  throw new TraceError('invalid-input', `${name}: ${what}: expected 0..${count - 1}, found ${index}`);
}

/** Draws and calibrates each head on first use; keeps the small part of it for good, interests in the cache. */
function createHeads(spec: ResolvedSpec, cache: ArrayCache): (layer: number, kvHead: number) => Head {
  const { preset, shape, promptTokens, steps, seed } = spec;
  const { headDim } = shape;
  const tokens = promptTokens + steps;
  const frequencies = ropeFrequencies(headDim, effectiveTheta(shape.ropeTheta, tokens));
  const heads = new Map<string, Head>();
  let text: SyntheticText | null = null;
  let identities: Float32Array | null = null;
  const create = (layer: number, kvHead: number): Head => {
    text ??= createText(preset.text, tokens, topicRank(headDim, preset.keys.topicRank), seed);
    identities ??= createIdentities(headDim, seed);
    const random = headRandom(seed, layer, kvHead);
    const target = preset.target(shape, layer, kvHead, random);
    const geometry = drawGeometry(headDim, frequencies, target, preset.keys, preset.text, random);
    const rows: RowSource = {
      layer,
      kvHead,
      seed,
      headDim,
      text,
      keys: preset.keys,
      geometry,
      frequencies,
      identities,
    };
    const process = {
      rows,
      group: shape.heads / shape.kvHeads,
      profile: preset.classes[target.class],
      promptTokens,
      windowTokens: Math.min(promptWindowTokens, promptTokens),
      steps,
    };
    const interests = (): Float32Array =>
      cache.get(`interest.${layer}.${kvHead}`, () => drawInterests(process));
    const queries: QuerySource = { ...process, interests };
    return { target, rows, queries, scales: calibrateHead(queries, target) };
  };
  return (layer, kvHead) => {
    const key = `${layer}.${kvHead}`;
    const head = heads.get(key) ?? create(layer, kvHead);
    heads.set(key, head);
    return head;
  };
}
