/** Codecs on the shipped capture of a real model: errors within bounds that a broken codec would leave, and in order. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { windowTrace } from '../../sim/trace/window.ts';
import { openAttentionFile } from '../../traces/attention/node-file.ts';
import { codecs, measureCodecs } from './errors.ts';
import { bytesTable } from './page.ts';

const sample = openAttentionFile('traces/samples/smollm2-135m-book.safetensors');
/** A head that attends far back, so that it depends on what is coded. */
const request = { trace: windowTrace(sample, 2500, 4), layers: [18], kvHeads: [2], steps: 4, everySteps: 2 };
const byName = (list: ReturnType<typeof measureCodecs>) =>
  new Map(list.map((errors) => [errors.codec, errors]));
const recorded = byName(measureCodecs(request));
const of = (name: string, list = recorded) => {
  const errors = list.get(name);
  if (errors === undefined) throw new Error(`codec ${name} was not measured`);
  return errors;
};

/** Output error as measured on this head, less and plus some 30 %: a change of codes shows, one of rounding does not. */
const bounds: Readonly<Record<string, readonly [number, number]>> = {
  int8: [0.0017, 0.0033],
  'int8-g64': [0.0017, 0.0035],
  k8v4: [0.009, 0.018],
  int4: [0.033, 0.066],
  'int4-g64': [0.038, 0.077],
  'int4-token': [0.031, 0.062],
  rotated4: [0.03, 0.06],
  nuq4: [0.048, 0.095],
  nuq3: [0.063, 0.13],
  nuq2: [0.38, 0.77],
  pq2: [0.14, 0.29],
  int2: [0.5, 1],
  'int2-g64': [2.2, 4.5],
  'low-rank': [0.075, 0.15],
  residual4: [0.52, 1.05],
};

test('every codec is measured, and errs as much as it is known to', () => {
  expect([...recorded.keys()].sort()).toEqual(Object.keys(bounds).sort());
  for (const [name, [least, most]] of Object.entries(bounds)) {
    const { outputError, logitRms, totalVariation } = of(name);
    expect.soft(outputError, name).toBeGreaterThan(least);
    expect.soft(outputError, name).toBeLessThan(most);
    expect.soft(logitRms, name).toBeGreaterThan(0);
    expect.soft(totalVariation, name).toBeLessThan(1);
  }
});

test('more bits and smaller groups err less', () => {
  const errors = (names: readonly string[]): readonly number[] => names.map((name) => of(name).outputError);
  for (const order of [
    ['int8', 'int4', 'int2'],
    ['nuq4', 'nuq3', 'nuq2'],
    ['int4', 'int4-g64'],
    ['int2', 'int2-g64'],
    ['k8v4', 'int4'],
  ]) {
    const found = errors(order);
    expect(found).toEqual([...found].sort((a, b) => a - b));
  }
  expect(of('k8v4').valueError).toBeGreaterThan(20 * of('k8v4').keyError);
});

test('keys have fewer directions before rotary embedding than after', () => {
  const unrotated = byName(measureCodecs({ ...request, preRope: true }));
  expect(of('low-rank', unrotated).keyError).toBeLessThan(0.1 * of('low-rank').keyError);
});

test('the page shows every codec, with the bytes that it takes', () => {
  const page = readFileSync('docs/codecs.md', 'utf8');
  expect(page).toContain(bytesTable());
  for (const name of Object.keys(codecs)) expect(page.split(`| \`${name}\` |`), name).toHaveLength(4);
});
