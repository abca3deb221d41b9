/** Agreement with torch: what the capture tool wrote is read back as torch read it, and attends as torch computed it. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import { unrotate } from '../../sim/trace/rope.ts';
import { openAttentionFile } from './node-file.ts';
import type { RecordedTrace } from './reader.ts';

const triple = z.tuple([z.number(), z.number(), z.number()]);
const reference = z
  .object({
    traces: z.array(
      z.object({
        file: z.string(),
        tensors: z.array(
          z.object({
            layer: z.int(),
            field: z.string(),
            shape: z.array(z.int()),
            sum: z.number(),
            first: triple,
            last: triple,
          }),
        ),
        rows: z.array(
          z.object({
            layer: z.int(),
            step: z.int(),
            head: z.int(),
            positions: z.array(z.int()),
            probabilities: z.array(z.number()),
            output: z.array(z.number()),
          }),
        ),
      }),
    ),
  })
  .parse(JSON.parse(readFileSync(new URL('./fixtures/reference.json', import.meta.url), 'utf8')));

const openFixture = (file: string) =>
  openAttentionFile(new URL(`./fixtures/${file}`, import.meta.url).pathname);

/** Prompt queries as the file holds them: [window, heads, headDim]. */
function promptRows(trace: RecordedTrace, layer: number): number[] {
  const { kvHeads, heads, headDim } = trace.shape;
  const size = (heads / kvHeads) * headDim;
  const groups = Array.from({ length: kvHeads }, (_, kvHead) => trace.promptQueries(layer, kvHead));
  return Array.from({ length: groups[0].windowTokens }, (_, w) =>
    groups.flatMap(({ q }) => [...q.subarray(w * size, (w + 1) * size)]),
  ).flat();
}

/** The whole tensor of a field, as the trace hands it out; null where the interface does not. */
function wholeTensor(trace: RecordedTrace, field: string, layer: number): number[] | null {
  const { kvHeads, steps } = trace.shape;
  const slabs = (count: number, slab: (index: number) => Float32Array): number[] =>
    Array.from({ length: count }, (_, index) => [...slab(index)]).flat();
  switch (field) {
    case 'k':
      return slabs(kvHeads, (kvHead) => trace.keys(layer, kvHead));
    case 'v':
      return slabs(kvHeads, (kvHead) => trace.values(layer, kvHead));
    case 'q':
      return slabs(steps * kvHeads, (at) => trace.queries(layer, Math.floor(at / kvHeads), at % kvHeads));
    case 'qprompt':
      return promptRows(trace, layer);
    case 'prefillMass':
      return [...trace.prefillMass(layer)];
    default:
      return null;
  }
}

/** Dense attention of one query head in float64, over the layer's sliding window where it has one. */
function attend(trace: RecordedTrace, layer: number, step: number, head: number) {
  const { headDim, heads, kvHeads, promptTokens } = trace.shape;
  const { slidingLayers, slidingWindowTokens } = trace.metadata.model;
  const kvHead = Math.floor(head / (heads / kvHeads));
  const inGroup = head - kvHead * (heads / kvHeads);
  const q = trace.queries(layer, step, kvHead).subarray(inGroup * headDim, (inGroup + 1) * headDim);
  const [k, v] = [trace.keys(layer, kvHead), trace.values(layer, kvHead)];
  const end = promptTokens + step + 1;
  const first = slidingLayers.includes(layer) ? Math.max(0, end - (slidingWindowTokens ?? end)) : 0;
  const weights = Array.from({ length: end }, (_, token) => {
    const logit = q.reduce((sum, x, c) => sum + x * k[token * headDim + c], 0) / Math.sqrt(headDim);
    return token < first ? 0 : Math.exp(logit);
  });
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const probabilities = weights.map((weight) => weight / total);
  const output = Array.from({ length: headDim }, (_, c) =>
    probabilities.reduce((sum, p, token) => sum + p * v[token * headDim + c], 0),
  );
  return { probabilities, output };
}

describe.each(reference.traces)('$file', ({ file, tensors, rows }) => {
  const trace = openFixture(file);

  it.each(tensors)('reads $field.$layer as torch does', ({ field, layer, shape, sum, first, last }) => {
    const values = wholeTensor(trace, field, layer);
    if (values === null) {
      expect(trace.metadata.fields).toContain(field);
      return;
    }
    expect(values).toHaveLength(shape.reduce((product, extent) => product * extent, 1));
    expect(values.reduce((total, x) => total + x, 0)).toBeCloseTo(sum, 2);
    for (let i = 0; i < 3; i++) {
      expect(values[i]).toBeCloseTo(first[i], 5);
      expect(values[values.length - 3 + i]).toBeCloseTo(last[i], 5);
    }
  });

  // Layers with a sliding window are rotated with another base.
  const rotated = tensors.filter(
    ({ field, layer }) => field === 'kpre' && !trace.metadata.model.slidingLayers.includes(layer),
  );
  it.each(rotated)('keys of layer $layer, rotated back, are what torch had before rotation', (tensor) => {
    const { kvHeads, headDim } = trace.shape;
    if (!trace.rope) throw new Error(`${file} names no rotation`);
    const found: number[] = [];
    for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
      const keys = trace.keys(tensor.layer, kvHead).slice();
      unrotate(keys, keys.length / headDim, 0, trace.rope);
      found.push(...keys);
    }
    const scale = Math.max(...found.map(Math.abs));
    for (let i = 0; i < 3; i++) {
      expect(Math.abs(found[i] - tensor.first[i])).toBeLessThan(0.005 * scale);
      expect(Math.abs(found[found.length - 3 + i] - tensor.last[i])).toBeLessThan(0.005 * scale);
    }
  });

  it('attends as torch does', () => {
    for (const { layer, step, head, positions, probabilities, output } of rows) {
      const got = attend(trace, layer, step, head);
      const order = got.probabilities
        .map((_, token) => token)
        .sort((a, b) => got.probabilities[b] - got.probabilities[a]);
      expect(order.slice(0, positions.length)).toEqual(positions);
      for (const [i, token] of positions.entries())
        expect(got.probabilities[token]).toBeCloseTo(probabilities[i], 5);
      for (const [c, x] of output.entries()) expect(got.output[c]).toBeCloseTo(x, 4);
    }
  });

  it('computes value norms where they are not recorded', () => {
    const v = trace.values(1, 1).subarray(0, trace.shape.headDim);
    expect(trace.valueNorms(1, 1)[0]).toBeCloseTo(Math.hypot(...v), 5);
  });
});
