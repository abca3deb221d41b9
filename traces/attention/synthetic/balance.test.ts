/** A head's mass divides as its preset says, whatever the length and the task. */
import { describe, expect, it } from 'vitest';
import { preset } from '../presets/smollm2-135m.ts';
import { measureAttended } from '../statistics/attended.ts';
import { createSyntheticTrace } from '../synthetic.ts';

const regions = ['start', 'text', 'question', 'answer'] as const;
const heads = [3, 9, 15, 21, 27].flatMap((layer) => [0, 2].map((kvHead) => ({ layer, kvHead })));

/** Mean distance of the heads' shares from the wanted ones, and the mean share of the text. */
function distance(task: string, promptTokens: number): { miss: number; text: number } {
  const trace = createSyntheticTrace({ preset: 'smollm2-135m', task, promptTokens, steps: 64 });
  const profile = preset.task(task);
  let [miss, text] = [0, 0];
  for (const { layer, kvHead } of heads) {
    const wanted = profile.regions(layer, kvHead);
    const found = measureAttended(trace, layer, kvHead, profile.questionTokens);
    for (const region of regions)
      miss += Math.abs(found[region] - wanted[region]) / regions.length / heads.length;
    text += found.text / heads.length;
  }
  return { miss, text };
}

describe('division of the mass', () => {
  it.each([
    ['needle', 1500],
    ['needle', 12000],
    ['kv-retrieval', 3000],
  ])('of %s at %d tokens is as measured', (task, promptTokens) => {
    expect(distance(task, promptTokens).miss).toBeLessThan(0.08);
  });

  it('gives eight times the text about the same share', () => {
    const [short, long] = [distance('needle', 1500).text, distance('needle', 12000).text];
    expect(Math.abs(long - short)).toBeLessThan(0.1);
  });

  it('differs by task', () => {
    expect(distance('kv-retrieval', 3000).text).toBeLessThan(distance('long-generation', 3000).text);
  });
});
