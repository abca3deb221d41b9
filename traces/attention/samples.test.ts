/** The shipped attention samples are what their README says: they open, they are listed, and their facts hold. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import { openAttentionFile } from './node-file.ts';
import type { RecordedTrace } from './reader.ts';

const folder = new URL('../samples/', import.meta.url).pathname;
const readme = readFileSync(join(folder, 'README.md'), 'utf8');
const samples = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
  name.endsWith('.safetensors'),
);

/** What a sample holds; one of ten thousand steps has to be lean. */
const lean = ['k', 'q', 'qprompt'] as const;
const whole = [...lean, 'v', 'prefillMass'] as const;

/** The largest mass that a head of the layer puts on token ranges in one step, by softmax over all keys. */
function mostMassOn(ranges: readonly (readonly number[])[], trace: RecordedTrace, layer: number): number {
  const { kvHeads, heads, headDim, promptTokens, steps } = trace.shape;
  let most = 0;
  for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
    const keys = trace.keys(layer, kvHead);
    for (let step = 0; step < steps; step += 8) {
      const queries = trace.queries(layer, step, kvHead);
      for (let h = 0; h < heads / kvHeads; h++) {
        const logits = Array.from({ length: promptTokens + step + 1 }, (_, t) => {
          let dot = 0;
          for (let c = 0; c < headDim; c++) dot += queries[h * headDim + c] * keys[t * headDim + c];
          return dot / Math.sqrt(headDim);
        });
        const top = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
        const weights = logits.map((x) => Math.exp(x - top));
        const total = weights.reduce((a, b) => a + b, 0);
        const on = ranges.flatMap(([first, last]) => weights.slice(first, last)).reduce((a, b) => a + b, 0);
        most = Math.max(most, on / total);
      }
    }
  }
  return most;
}

describe('shipped attention samples', () => {
  it.each(samples)('%s opens, decodes and is described', (name) => {
    const trace = openAttentionFile(join(folder, name));
    const [layer] = trace.shape.recordedLayers;
    for (const field of name.startsWith('long-decode/') ? lean : whole) {
      expect(trace.has(field, layer)).toBe(true);
    }
    expect(trace.keys(layer, 0).length).toBe(
      (trace.shape.promptTokens + trace.shape.steps) * trace.shape.headDim,
    );
    expect(readme).toContain(name);
  });

  it('keep the folder small enough to ship', () => {
    const sizeBytes = samples.reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
    expect(sizeBytes).toBeLessThan(38e6);
  });

  it('have the facts of the multi-hop prompt looked at by a head of layer 16', () => {
    const trace = openAttentionFile(join(folder, 'attention/qwen2.5-coder-0.5b-multi-hop-32k.safetensors'));
    const text = z.object({ evidenceTokens: z.array(z.array(z.int())) }).parse(trace.metadata.text);
    expect(trace.evidenceTokens).toEqual(text.evidenceTokens);
    expect(mostMassOn(text.evidenceTokens, trace, 16)).toBeGreaterThan(0.95);
  });
});
