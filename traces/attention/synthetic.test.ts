/** Synthetic traces: determinism, any shape, and statistics measured on the generated keys and queries themselves. */
import { describe, expect, it } from 'vitest';
import { ropeFrequencies, rotateRows } from '../../sim/trace/rope.ts';
import { TraceError } from '../error.ts';
import { memorySource } from './byte-source.ts';
import type { AttentionMetadata } from './metadata.ts';
import { fittedText } from './presets/fitted.ts';
import { preset } from './presets/llama-3.1-8b.ts';
import { decodeProfile, encodeProfile } from './presets/profile-code.ts';
import { preset as smollm2 } from './presets/smollm2-135m.ts';
import { openAttentionTrace } from './reader.ts';
import { writeSafetensors } from './safetensors-writer.ts';
import { measureAttended } from './statistics/attended.ts';
import { measureHead } from './statistics/measured.ts';
import { regionBounds } from './synthetic/regions.ts';
import { effectiveTheta } from './synthetic/rope.ts';
import { type SyntheticSpec, syntheticSpecSchema } from './synthetic/spec.ts';
import { createText } from './synthetic/text.ts';
import { createSyntheticTrace, type SyntheticTrace } from './synthetic.ts';
import { attentionTensors, encodeAttentionMetadata } from './writer.ts';

const small = { layers: 3, heads: 4, kvHeads: 2, headDim: 16, ropeTheta: 10000 };

const llama = (over: Partial<SyntheticSpec> = {}): SyntheticTrace =>
  createSyntheticTrace({ promptTokens: 4096, steps: 32, ...over });

/** Logits of one query head over positions 0 .. promptTokens + step. */
function logitsOf(
  trace: SyntheticTrace,
  layer: number,
  kvHead: number,
  head: number,
  step: number,
): Float64Array {
  const { headDim, promptTokens } = trace.shape;
  const q = trace.queries(layer, step, kvHead).subarray(head * headDim, (head + 1) * headDim);
  const k = trace.keys(layer, kvHead);
  return Float64Array.from({ length: promptTokens + step + 1 }, (_, token) => {
    let sum = 0;
    for (let c = 0; c < headDim; c++) sum += q[c] * k[token * headDim + c];
    return sum / Math.sqrt(headDim);
  });
}

function softmax(logits: Float64Array): Float64Array {
  const top = logits.reduce((a, b) => Math.max(a, b));
  const weights = logits.map((x) => Math.exp(x - top));
  const total = weights.reduce((a, b) => a + b);
  return weights.map((x) => x / total);
}

const topSet = (mass: Float64Array, count: number): Set<number> =>
  new Set(
    Array.from(mass.keys())
      .slice(4)
      .sort((a, b) => mass[b] - mass[a])
      .slice(0, count),
  );

function jaccard(a: Set<number>, b: Set<number>): number {
  const both = [...a].filter((x) => b.has(x)).length;
  return both / (a.size + b.size - both);
}

/** Correlation of the deviations of rows `lag` apart, all channels together. */
function rowCorrelation(rows: Float32Array, width: number, lag: number): number {
  const mean = new Float64Array(width);
  for (let i = 0; i < rows.length; i++) mean[i % width] += (rows[i] * width) / rows.length;
  let [product, square] = [0, 0];
  for (let i = 0; i + lag * width < rows.length; i++) {
    const x = rows[i] - mean[i % width];
    product += x * (rows[i + lag * width] - mean[i % width]);
    square += x * x;
  }
  return product / square;
}

describe('determinism', () => {
  it('gives the same numbers and digest for the same specification, whatever is asked first', () => {
    const spec: SyntheticSpec = { preset: 'x', shape: small, promptTokens: 500, steps: 3, seed: 7 };
    const one = createSyntheticTrace(spec);
    const two = createSyntheticTrace(spec, { cacheBytes: 0 });
    const [k, v, q] = [one.keys(2, 1), one.values(2, 1), one.queries(2, 2, 1)];
    expect(two.queries(2, 2, 1)).toEqual(q);
    expect(two.values(2, 1)).toEqual(v);
    expect(two.promptQueries(1, 0)).toEqual(one.promptQueries(1, 0));
    expect(two.keys(2, 1)).toEqual(k);
    expect(two.digest).toBe(one.digest);
  });

  it('changes with every part of the specification', () => {
    const spec: SyntheticSpec = { preset: 'x', shape: small, promptTokens: 500, steps: 3, seed: 7 };
    const others: SyntheticSpec[] = [
      { ...spec, seed: 8 },
      { ...spec, promptTokens: 501 },
      { ...spec, steps: 4 },
      { ...spec, recordedLayers: [0] },
      { ...spec, shape: { ...small, ropeTheta: 20000 } },
    ];
    const digests = [spec, ...others].map((each) => createSyntheticTrace(each).digest);
    expect(new Set(digests).size).toBe(digests.length);
    expect(createSyntheticTrace({ ...spec, seed: 8 }).keys(0, 0)).not.toEqual(
      createSyntheticTrace(spec).keys(0, 0),
    );
  });

  it('holds these very numbers on every machine', () => {
    const trace = createSyntheticTrace({ preset: 'x', shape: small, promptTokens: 200, steps: 2, seed: 42 });
    const sum = (values: Float32Array): number => values.reduce((a, b) => a + b, 0);
    expect([
      sum(trace.keys(1, 1)),
      sum(trace.values(1, 1)),
      sum(trace.queries(1, 1, 1)),
    ]).toMatchInlineSnapshot(`
      [
        837.8161493253174,
        -60.08352399629075,
        5.108151655644178,
      ]
    `);
  });
});

describe('shapes', () => {
  it.each([
    { layers: 1, heads: 1, kvHeads: 1, headDim: 4, ropeTheta: 10000 },
    { layers: 5, heads: 8, kvHeads: 4, headDim: 8, ropeTheta: 10000 },
    { layers: 30, heads: 9, kvHeads: 3, headDim: 64, ropeTheta: 100000 },
    { layers: 2, heads: 16, kvHeads: 1, headDim: 576, ropeTheta: 10000 },
  ])('generates finite numbers for $heads/$kvHeads heads of $headDim', (shape) => {
    for (const promptTokens of [16, 333]) {
      const trace = createSyntheticTrace({ preset: 'any', shape, promptTokens, steps: 2 });
      const layer = shape.layers - 1;
      const tokens = promptTokens + 2;
      const arrays = [
        trace.keys(layer, 0),
        trace.values(layer, 0),
        trace.queries(layer, 1, 0),
        trace.promptQueries(layer, 0).q,
      ];
      const window = Math.min(64, promptTokens);
      const width = (shape.heads / shape.kvHeads) * shape.headDim;
      expect(arrays.map((a) => a.length)).toEqual([
        tokens * shape.headDim,
        tokens * shape.headDim,
        width,
        window * width,
      ]);
      for (const array of arrays)
        expect(array.every((x) => Number.isFinite(x) && Math.abs(x) < 65504)).toBe(true);
    }
  });

  it('is written and read back', () => {
    const trace = createSyntheticTrace({
      preset: 'x',
      shape: small,
      promptTokens: 100,
      steps: 2,
      recordedLayers: [1],
    });
    const metadata: AttentionMetadata = {
      format: 'kvtier.attention/1',
      model: { name: 'x', source: '', architecture: '', ...small, slidingLayers: [] },
      promptTokens: 100,
      steps: 2,
      recordedLayers: [1],
      fields: ['k', 'v', 'q', 'qprompt'],
      promptWindowTokens: 64,
      provenance: {},
      text: {},
    };
    const bytes = writeSafetensors(
      attentionTensors(trace, metadata, 'F32'),
      encodeAttentionMetadata(metadata),
    );
    const back = openAttentionTrace(memorySource(bytes), 'x');
    expect(back.shape).toEqual(trace.shape);
    expect(back.keys(1, 1)).toEqual(trace.keys(1, 1));
    expect(back.queries(1, 1, 1)).toEqual(trace.queries(1, 1, 1));
    expect(back.promptQueries(1, 1)).toEqual(trace.promptQueries(1, 1));
  });

  const bad: readonly [string, SyntheticSpec, RegExp][] = [
    [
      'no shape',
      { preset: 'unknown', promptTokens: 100 },
      /synthetic trace: shape: expected with preset "unknown"/,
    ],
    [
      'heads',
      { preset: 'x', shape: { ...small, heads: 3 }, promptTokens: 100 },
      /shape.heads: expected a multiple of 2/,
    ],
    ['odd headDim', { preset: 'x', shape: { ...small, headDim: 15 }, promptTokens: 100 }, /shape.headDim: /],
    ['no tokens', { promptTokens: 0 }, /promptTokens: /],
    [
      'a layer',
      { promptTokens: 100, recordedLayers: [32] },
      /recordedLayers: expected layers below 32, found 32/,
    ],
  ];
  it.each(bad)('refuses a bad specification: %s', (_, spec, message) => {
    expect(() => createSyntheticTrace(spec)).toThrow(TraceError);
    expect(() => createSyntheticTrace(spec)).toThrow(message);
  });

  it('refuses what it does not hold', () => {
    const trace = createSyntheticTrace({ preset: 'x', shape: small, promptTokens: 64, recordedLayers: [0] });
    expect(() => trace.keys(1, 0)).toThrow('layer 1: not recorded');
    expect(() => trace.keys(0, 2)).toThrow('kvHead: expected 0..1, found 2');
    expect(() => trace.queries(0, 64, 0)).toThrow('step: expected 0..63, found 64');
    expect(trace.has('prefillMass', 0)).toBe(false);
    expect(() => trace.prefillMass(0)).toThrow('not recorded');
    expect(syntheticSpecSchema.parse({ promptTokens: 64 })).toMatchObject({
      preset: 'llama-3.1-8b',
      steps: 64,
      seed: 1,
    });
  });
});

describe('statistics of the Llama-3.1-8B preset', () => {
  const trace = llama();
  const heads = [2, 13, 20].flatMap((layer) => [0, 2, 5].map((kvHead) => ({ layer, kvHead })));
  const { questionTokens, evidencePlace } = preset.text(null);
  const bounds = regionBounds(4096, questionTokens, evidencePlace);
  const measured = heads.map(({ layer, kvHead }) => ({
    wanted: trace.plan(layer, kvHead).attended,
    found: measureAttended(trace, layer, kvHead, bounds),
  }));
  const meanError = (error: (head: (typeof measured)[number]) => number): number =>
    measured.reduce((sum, head) => sum + Math.abs(error(head)), 0) / measured.length;

  it('concentrates each head as its target says', () => {
    expect(meanError(({ found, wanted }) => found.textTop1 - wanted.textTop1)).toBeLessThan(0.08);
    expect(meanError(({ found, wanted }) => found.textTop10 - wanted.textTop10)).toBeLessThan(0.08);
  });

  it('is coherent along the text: near keys are alike, far ones are not', () => {
    const lags = [1, 8, 1024].map((lag) => {
      const values = heads.map(({ layer, kvHead }) =>
        rowCorrelation(trace.keys(layer, kvHead).subarray(64 * 128), 128, lag),
      );
      return values.reduce((a, b) => a + b) / values.length;
    });
    expect(lags[0]).toBeGreaterThan(lags[1] + 0.05);
    expect(lags[1]).toBeGreaterThan(lags[2] + 0.02);
  });

  it('selects alike from step to step and within a group, but not the same', () => {
    const overlap = (a: { head: number; step: number }, b: { head: number; step: number }): number => {
      const values = heads.map(({ layer, kvHead }) => {
        const [one, other] = [a, b].map(({ head, step }) =>
          topSet(softmax(logitsOf(trace, layer, kvHead, head, step)), 200),
        );
        return jaccard(one, other);
      });
      return values.reduce((sum, value) => sum + value) / values.length;
    };
    const steps = [0, 2, 4, 6];
    const average = (pairs: readonly number[]): number => pairs.reduce((a, b) => a + b) / pairs.length;
    const next = average(steps.map((step) => overlap({ head: 0, step }, { head: 0, step: step + 1 })));
    const later = average(steps.map((step) => overlap({ head: 0, step }, { head: 0, step: (step + 4) % 8 })));
    const neighbour = average(steps.map((step) => overlap({ head: 0, step }, { head: 1, step })));
    expect(next).toBeGreaterThan(0.2);
    expect(next).toBeLessThan(0.9);
    expect(later).toBeLessThan(next);
    expect(neighbour).toBeGreaterThan(0.15);
    expect(neighbour).toBeLessThan(0.9);
  });

  it('makes the values of the sinks small', () => {
    const v = trace.values(13, 0);
    const norm = (token: number): number => Math.hypot(...v.subarray(token * 128, (token + 1) * 128));
    expect(norm(0)).toBeLessThan(0.1 * norm(500));
  });
});

describe('geometry', () => {
  it('rotates by position: logits depend on the distance alone', () => {
    const frequencies = ropeFrequencies(16, 10000);
    const rotated = (position: number, value: number): Float32Array => {
      const row = Float32Array.from({ length: 16 }, (_, c) => value + c / 8);
      rotateRows(row, 1, frequencies, position, 0);
      return row;
    };
    const logit = (p: number, k: number): number =>
      rotated(p, 1).reduce((sum, x, c) => sum + x * rotated(k, -0.5)[c], 0);
    expect(logit(1000, 990)).toBeCloseTo(logit(30, 20), 3);
    expect(Math.abs(logit(1000, 990) - logit(1000, 980))).toBeGreaterThan(0.1);
    expect(rotated(0, 1)[3]).toBe(1 + 3 / 8);
  });

  it('rotates a run of rows as each row alone', () => {
    const frequencies = ropeFrequencies(8, 500);
    const rows = Float32Array.from({ length: 64 * 8 }, (_, i) => (i % 13) - 6);
    const single = rows.slice();
    rotateRows(rows, 64, frequencies, 128, 3);
    for (let r = 0; r < 64; r++)
      rotateRows(single.subarray(r * 8, r * 8 + 8), 1, frequencies, 128 + 3 * r, 0);
    for (let i = 0; i < rows.length; i++) expect(rows[i]).toBeCloseTo(single[i], 4);
  });

  it('stretches the base only as far as the context needs', () => {
    expect(effectiveTheta(500000, 1000)).toBe(500000);
    const theta = effectiveTheta(10000, 131072);
    const frequencies = ropeFrequencies(128, theta);
    expect(frequencies[48] * 131072).toBeCloseTo(Math.PI / 2, 6);
  });

  it('runs words, sentences and passages of their mean lengths and draws tokens by Zipf', () => {
    const text = createText(fittedText, 49900, 100, 3);
    const meanLength = (runs: Int32Array): number => runs.length / (runs[runs.length - 1] + 1);
    expect(meanLength(text.words)).toBeCloseTo(2, 1);
    expect(meanLength(text.sentences)).toBeCloseTo(10, 0);
    expect(meanLength(text.passages)).toBeGreaterThan(85);
    expect(meanLength(text.passages)).toBeLessThan(115);
    const share = (type: number): number => text.types.filter((x) => x === type).length / text.types.length;
    expect(share(0) / share(1)).toBeCloseTo(2, 0);
  });

  it('marks about the wanted share of the tokens as salient, the same ones for every head', () => {
    const text = createText(fittedText, 49900, 100, 3);
    for (const ratio of [0.002, 0.01, 0.05]) {
      const salient = text.types.filter((type) => text.salience[type] < ratio).length / text.types.length;
      expect(salient / ratio).toBeGreaterThan(0.6);
      expect(salient / ratio).toBeLessThan(1.6);
    }
  });
});

describe('a fitted preset', () => {
  const trace = createSyntheticTrace({ preset: 'smollm2-135m', promptTokens: 6000, steps: 40 });
  const heads = [3, 10, 17, 24].flatMap((layer) => [0, 1, 2].map((kvHead) => ({ layer, kvHead })));

  it('comes near the attention that was measured', () => {
    const errors = heads.map(({ layer, kvHead }) => {
      const { profile } = trace.plan(layer, kvHead);
      const made = measureHead(trace, layer, kvHead, 3);
      const { massTop1, massTop10, sinkRatio } = profile.measured;
      return [made.massTop1 - massTop1, made.massTop10 - massTop10, made.sinkRatio - sinkRatio];
    });
    const meanError = (at: number): number =>
      errors.reduce((sum, error) => sum + Math.abs(error[at]), 0) / errors.length;
    expect(meanError(0)).toBeLessThan(0.12);
    expect(meanError(1)).toBeLessThan(0.05);
    expect(meanError(2)).toBeLessThan(0.15);
  });

  it('takes the generic way on another shape', () => {
    const shape = { ...small, layers: 2 };
    const other = createSyntheticTrace({ preset: 'smollm2-135m', shape, promptTokens: 100, steps: 1 });
    expect(other.plan(1, 1).attended.textTop1).toBeGreaterThan(0);
  });

  it('writes a profile as a line and reads it back', () => {
    const profile = smollm2.profile(12, 1);
    const line = encodeProfile(profile);
    const back = decodeProfile(line, 32, 3);
    expect(encodeProfile(back)).toBe(line);
    expect(back.keyMean[5]).toBeCloseTo(profile.keyMean[5], 6);
    expect(() => decodeProfile(line.slice(1), 32, 3)).toThrow(TraceError);
    expect(() => decodeProfile(`${line}A`, 32, 3)).toThrow('expected');
    expect(() => decodeProfile(`!${line.slice(1)}`, 32, 3)).toThrow('no digit at character 0');
  });
});
