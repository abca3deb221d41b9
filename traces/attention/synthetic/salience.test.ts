/** Salient keys that are alike have the same logit wherever in the text they stand. */
import { expect, test } from 'vitest';
import { createRandom } from '../../../sim/engine/random.ts';
import { logitsInto } from '../../../sim/quality/exact-attention.ts';
import { ropeFrequencies, rotateRows } from '../../../sim/trace/rope.ts';
import { preset } from '../presets/smollm2-135m.ts';
import { plain } from './calibrate.ts';
import { drawGeometry } from './geometry.ts';
import { groupQueries } from './queries.ts';
import { createNormals, fillKeys, type HeadScales, type RowSource } from './rows.ts';
import { sampleLogits } from './sample.ts';
import { textShares } from './shares.ts';
import { createText } from './text.ts';

const [layer, kvHead, seed, promptTokens, steps] = [7, 0, 1, 2048, 16];
const { headDim, ropeTheta } = preset.shape;
const { profile } = preset.plan(preset.shape, layer, kvHead, createRandom(seed, 'plan'), null);
const frequencies = ropeFrequencies(headDim, ropeTheta);
const text = createText(preset.text(null), promptTokens, steps, seed);
const source: RowSource = {
  layer,
  kvHead,
  seed,
  headDim,
  promptTokens,
  text,
  geometry: drawGeometry(
    headDim,
    frequencies,
    promptTokens + steps,
    profile,
    1,
    createRandom(seed, 'geometry'),
  ),
  frequencies,
  normals: createNormals(headDim, seed),
};

const scalesOf = (salientSpread: number): HeadScales => ({
  ...plain,
  salientRatio: 0.05,
  salientNats: 10,
  salientSpread,
});

const deviationOf = (values: readonly number[]): number => {
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  return Math.sqrt(values.reduce((sum, x) => sum + (x - mean) * (x - mean), 0) / values.length);
};

/** Logits of the first query of the answer on all keys of the text. */
function logitsUnder(scales: HeadScales): Float32Array {
  const keys = new Float32Array(promptTokens * headDim);
  fillKeys(source, scales, 0, keys);
  const query = groupQueries(source, promptTokens, scales).subarray(0, headDim);
  rotateRows(query, 1, frequencies, promptTokens, 0);
  const logits = new Float32Array(promptTokens);
  logitsInto(query, 1, keys, headDim, promptTokens, logits, promptTokens);
  return logits;
}

/** Tokens of the text that are salient, behind the first few hundred, which lie on the way to the sink. */
const salient = Array.from({ length: promptTokens }, (_, token) => token).filter(
  (token) => token >= 512 && token < text.bounds.evidenceFrom && text.salience[text.types[token]] < 0.05,
);

test('salient keys without a spread of their own are met alike at any distance', () => {
  expect(salient.length).toBeGreaterThan(20);
  const [alike, apart] = [0, 1].map((spread) => {
    const logits = logitsUnder(scalesOf(spread));
    return deviationOf(salient.map((token) => logits[token]));
  });
  expect(alike).toBeLessThan(0.2 * apart);
});

test('a sample knows it: its heaviest keys have less of the mass the more alike they are', () => {
  const sample = sampleLogits(source, steps);
  const [alike, apart] = [0, 1].map((spread) => textShares(sample, scalesOf(spread), 1).shares[0]);
  expect(alike).toBeLessThan(0.15 * apart);
});
