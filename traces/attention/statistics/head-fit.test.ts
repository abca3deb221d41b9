/** The fit on traces whose truth is known: those of the generator itself. */
import { describe, expect, it } from 'vitest';
import { memorySource } from '../byte-source.ts';
import type { AttentionMetadata } from '../metadata.ts';
import type { HeadProfile } from '../presets/preset.ts';
import { decodeProfile } from '../presets/profile-code.ts';
import { preset } from '../presets/smollm2-135m.ts';
import { openAttentionTrace, type RecordedTrace } from '../reader.ts';
import { writeSafetensors } from '../safetensors-writer.ts';
import { createSyntheticTrace } from '../synthetic.ts';
import { attentionTensors, encodeAttentionMetadata } from '../writer.ts';
import { fitHead } from './head-fit.ts';
import { measureHead } from './measured.ts';
import { fitModel } from './model-fit.ts';
import { tokenIdentities, unrotateHead } from './unrotated.ts';

// A head that needs few nats beyond its profile to attend as wanted.
const [layer, kvHead] = [20, 0];
const trace = createSyntheticTrace({
  preset: 'smollm2-135m',
  promptTokens: 6000,
  steps: 96,
  recordedLayers: [0, layer],
});
const { ropeTheta } = preset.shape;
const truth = preset.profile(layer, kvHead);
const fitted = fitHead([
  {
    head: unrotateHead(trace, ropeTheta, layer, kvHead),
    identities: tokenIdentities(trace, ropeTheta),
    measured: measureHead(trace, layer, kvHead, 4),
    questionTokens: preset.text(null).questionTokens,
  },
]);

/** Root of the summed squares of the difference, over that of the truth. */
function distance(found: Float64Array, wanted: Float64Array): number {
  const square = (values: Float64Array): number => values.reduce((sum, x) => sum + x * x, 0);
  return Math.sqrt(square(found.map((x, i) => x - wanted[i])) / square(wanted));
}

describe('a fitted head', () => {
  it('has the means and deviations that the trace was made from', () => {
    expect(distance(fitted.keyMean, truth.keyMean)).toBeLessThan(0.05);
    // The trace's sink is moved from the profile's to give it its share.
    expect(distance(fitted.sinkKey, truth.sinkKey)).toBeLessThan(0.2);
    expect(distance(fitted.keyDeviation, truth.keyDeviation)).toBeLessThan(0.35);
    for (const [g, query] of fitted.queries.entries())
      expect(distance(query.mean, truth.queries[g].mean)).toBeLessThan(0.3);
  });

  it('has its coherence', () => {
    for (const part of ['word', 'sentence', 'passage'] as const)
      expect(Math.abs(fitted.keyCoherence[part] - truth.keyCoherence[part])).toBeLessThan(0.15);
    expect(Math.abs(fitted.agreement - truth.agreement)).toBeLessThan(0.2);
  });

  it('finds where the keys of a question lie', () => {
    expect(distance(fitted.question.shift, truth.question.shift)).toBeLessThan(0.9);
    expect(fitted.question.spreadNats).toBeGreaterThan(truth.question.spreadNats / 3);
    expect(fitted.question.spreadNats).toBeLessThan(truth.question.spreadNats * 3);
  });
});

describe('a fit of a model', () => {
  const record = (recordedLayers: readonly number[], seed: number): RecordedTrace => {
    const shape = { layers: 2, heads: 4, kvHeads: 2, headDim: 8, ropeTheta: 10000 };
    const made = createSyntheticTrace({
      preset: 'x',
      shape,
      promptTokens: 400,
      steps: 16,
      seed,
      recordedLayers: [...recordedLayers],
    });
    const metadata: AttentionMetadata = {
      format: 'kvtier.attention/1',
      model: { name: 'x', source: '', architecture: '', ...shape, slidingLayers: [] },
      rope: { theta: 10000, scaling: null, dim: 8 },
      promptTokens: 400,
      steps: 16,
      recordedLayers: [...recordedLayers],
      fields: ['k', 'v', 'q', 'qprompt'],
      promptWindowTokens: 64,
      provenance: {},
      text: {},
    };
    const bytes = writeSafetensors(
      attentionTensors(made, metadata, 'F32'),
      encodeAttentionMetadata(metadata),
    );
    return openAttentionTrace(memorySource(bytes), `seed ${seed}`);
  };

  it('takes each layer from the captures that have it, and is the same each time', () => {
    const traces = [record([0, 1], 1), record([1], 2)];
    const one = fitModel('x', traces);
    expect(one.profiles).toHaveLength(4);
    expect(fitModel('x', traces)).toEqual(one);
    const profile: HeadProfile = decodeProfile(one.profiles[3], 4, 2);
    expect(profile.queries).toHaveLength(2);
    expect(one.profiles[0]).toBe(fitModel('x', [record([0, 1], 1)]).profiles[0]);
    expect(one.profiles[2]).not.toBe(fitModel('x', [record([0, 1], 1)]).profiles[2]);
  });

  it('says which layer no capture has', () => {
    expect(() => fitModel('x', [record([1], 2)])).toThrow('recordedLayers: expected layer 0 in some capture');
  });
});
