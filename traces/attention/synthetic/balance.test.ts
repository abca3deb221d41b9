/** A head's mass divides as its preset says, whatever the length and the task. */
import { describe, expect, it } from 'vitest';
import { preset } from '../presets/smollm2-135m.ts';
import { measureAttended } from '../statistics/attended.ts';
import { createSyntheticTrace } from '../synthetic.ts';
import { regionBounds } from './regions.ts';

const shares = ['newest', 'textTop01', 'textTop1', 'textTop10', 'textLate'] as const;
const regions = ['start', 'text', 'evidence', 'question', 'answer'] as const;
const heads = [9, 21].flatMap((layer) => [0, 2].map((kvHead) => ({ layer, kvHead })));

interface Distance {
  /** Mean distance of the heads' regions from the wanted ones, of their shares within regions, and mean of the text. */
  readonly miss: number;
  readonly within: number;
  readonly text: number;
}

const known = new Map<string, Distance>();

function distance(task: string, promptTokens: number): Distance {
  const key = `${task} ${promptTokens}`;
  const found = known.get(key) ?? measureDistance(task, promptTokens);
  known.set(key, found);
  return found;
}

function measureDistance(task: string, promptTokens: number): Distance {
  const trace = createSyntheticTrace({ preset: 'smollm2-135m', task, promptTokens, steps: 64 });
  const profile = preset.task(task);
  const bounds = regionBounds(promptTokens, profile.questionTokens, profile.evidencePlace);
  let [miss, within, text] = [0, 0, 0];
  for (const { layer, kvHead } of heads) {
    const wanted = profile.attended(layer, kvHead);
    const found = measureAttended(trace, layer, kvHead, bounds);
    for (const region of regions)
      miss += Math.abs(found[region] - wanted[region]) / regions.length / heads.length;
    for (const share of shares)
      within += Math.abs(found[share] - wanted[share]) / shares.length / heads.length;
    text += found.text / heads.length;
  }
  return { miss, within, text };
}

describe('division of the mass', () => {
  it.each([
    ['needle', 1500],
    ['needle', 9000],
    ['kv-retrieval', 3000],
  ])('of %s at %d tokens is as measured', (task, promptTokens) => {
    expect(distance(task, promptTokens).miss).toBeLessThan(0.08);
    expect(distance(task, promptTokens).within).toBeLessThan(0.1);
  });

  it('gives six times the text about the same share', () => {
    const [short, long] = [distance('needle', 1500).text, distance('needle', 9000).text];
    expect(Math.abs(long - short)).toBeLessThan(0.1);
  });

  it('differs by task', () => {
    expect(distance('kv-retrieval', 3000).text).toBeLessThan(distance('long-generation', 3000).text);
  });
});
