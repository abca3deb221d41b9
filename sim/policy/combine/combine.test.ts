/** Combinations obey the laws of all policies, and some algebra of their own. */
import { describe, expect, test } from 'vitest';
import { plugins, smallDefaults, worldOf } from '../../../test/policy-cases.ts';
import { checkLaws, LAYER, recordOf, replay, standard } from '../../../test/policy-laws.ts';
import { probe } from '../../../test/policy-probe.ts';
import { createRandomTrace } from '../../trace/random-trace.ts';
import { createPolicy } from '../create-policy.ts';
import { findPolicy } from '../find-policy.ts';
import type { Policy } from '../policy.ts';
import { budgetPolicy } from './budget.ts';
import { memberOf, type Part } from './combinator.ts';
import { splitPolicy } from './per-head.ts';
import { nameOfSpec, parseSpec } from './spec.ts';

const shape = { ...standard, promptTokens: 300, steps: 4 };
const world = worldOf(shape);

const make = (name: string, config: Record<string, unknown> = {}): Policy =>
  createPolicy(findPolicy(name), config, world);

/** Both policies ask for the same in every step. */
const expectSame = (one: Policy, other: Policy): void => {
  const [a, b] = replay({ shape, seed: 5 }, [one, other]).map(recordOf);
  expect(b).toEqual(a);
};

describe.each(plugins)('$name', (plugin) => {
  const config = smallDefaults(plugin);
  const alone = (): Policy => createPolicy(plugin, config, world);
  const part: Part = { name: plugin.name, plugin, config };

  test('is unchanged by what changes nothing', () => {
    // In a layer that one part alone leaves dense, it has no say.
    if (plugin.name !== 'full' && !alone().isDenseLayer(LAYER))
      expectSame(alone(), make(`stack(full,${plugin.name})`, { [plugin.name]: config }));
    expectSame(alone(), make(`every(${plugin.name})`, { n: 1, [plugin.name]: config }));
    expectSame(
      alone(),
      splitPolicy([memberOf(part, world)], () => 0),
    );
  });

  const { atBudget } = plugin;
  if (atBudget === undefined) return;
  test('has its budget from a flat allocation', () => {
    expectSame(
      createPolicy(plugin, { ...config, ...atBudget(64, world) }, world),
      budgetPolicy(part, () => 64, world),
    );
  });
});

const combinations: readonly (readonly [string, Record<string, unknown>])[] = [
  ['stack(streaming-llm,quest)', { 'streaming-llm': { windowTokens: 200 }, quest: { budgetTokens: 64 } }],
  ['stack(snapkv,quest)', { snapkv: { budgetTokens: 150 }, quest: { budgetTokens: 64, tier: 'dram' } }],
  [
    'stack(quest,ttkv)',
    { quest: { budgetTokens: 128 }, ttkv: { blockTokens: 16, fastTokens: 64, slowBlocks: 8 } },
  ],
  ['stack(h2o,every(quest))', { 'every(quest)': { quest: { budgetTokens: 64 } } }],
  ['per-head(full,streaming-llm)', { 'streaming-llm': { windowTokens: 50 } }],
  ['per-head(quest,snapkv)', { heads: [1], quest: { budgetTokens: 64 }, snapkv: { budgetTokens: 64 } }],
  ['budget(snapkv)', { tokens: 100, beta: 4 }],
  ['budget(ttkv)', { tokens: 128, beta: 2 }],
  ['gate(ttkv)', { keep: 0.4, ttkv: { blockTokens: 16, fastTokens: 64, slowBlocks: 8 } }],
  ['gate(quest)', { keep: 0.4, quest: { budgetTokens: 64, tier: 'dram' } }],
  ['gate(arkvale)', { keep: 0.2, arkvale: { pageTokens: 8, budgetPages: 12, topkPages: 8 } }],
  ['every(pariskv)', { n: 3, pariskv: { topK: 20, localTokens: 32, updateTokens: 4, minTokens: 0 } }],
];

describe.each(combinations)('%s', (name, config) => {
  test('keeps the laws of all policies', () => {
    const full = worldOf(standard);
    checkLaws({
      shape: standard,
      seed: 3,
      policy: createPolicy(findPolicy(name), config, full),
      world: full,
    });
  });
});

/** Tokens that each head attends to, per step. */
const choicesOf = (policy: Policy) =>
  probe({
    policy,
    world,
    trace: createRandomTrace({ shape, seed: 5 }),
    layer: LAYER,
    steps: shape.steps,
    after: () => {},
  });

test('a stack attends to what all its policies would', () => {
  const quest = { budgetTokens: 96 };
  const ttkv = { blockTokens: 16, fastTokens: 32, slowBlocks: 6 };
  const [a, b, both] = [
    make('quest', quest),
    make('ttkv', ttkv),
    make('stack(quest,ttkv)', { quest, ttkv }),
  ].map(choicesOf);
  both.forEach((heads, step) => {
    heads.forEach((marks, head) => {
      const expected = a[step][head].map((mark, token) => mark & b[step][head][token] & 0b1111);
      expect(marks.map((mark) => mark & 0b1111)).toEqual(expected);
    });
  });
});

test('every n-th choice stands until the next, and new tokens are added', () => {
  const always = choicesOf(make('quest', { budgetTokens: 64 }));
  const seldom = choicesOf(make('every(quest)', { n: 2, quest: { budgetTokens: 64 } }));
  expect(seldom[0]).toEqual(always[0]);
  expect(seldom[2]).toEqual(always[2]);
  seldom[1].forEach((marks, head) => {
    expect(marks.subarray(0, -1)).toEqual(seldom[0][head]);
    expect(marks.at(-1)).toBe(-1);
  });
  const [record] = replay({ shape, seed: 5 }, [
    make('every(quest)', { n: 2, quest: { budgetTokens: 64 } }),
  ]).map(recordOf);
  expect(record.choices.map(({ works }) => works.length)).toEqual([1, 0, 1, 0]);
});

test('heads that no layer has are refused', () => {
  const heads = [0, world.kvHeads];
  expect(() => make('per-head(full,h2o)', { heads })).toThrow(
    `heads: expected KV heads below ${world.kvHeads}, got ${world.kvHeads}`,
  );
});

test('heads follow their own policy', () => {
  const config = { heads: [1], 'streaming-llm': { windowTokens: 20 } };
  const choices = choicesOf(make('per-head(full,streaming-llm)', config));
  const countOf = (marks: Int32Array): number => marks.reduce((sum, mark) => sum + (mark === 0 ? 0 : 1), 0);
  expect(choices[0].map(countOf)).toEqual([24, shape.promptTokens + 1]);
});

test('a gate drops at the boundary what it does not admit, and nothing in HBM', () => {
  const ttkv = { blockTokens: 16, fastTokens: 60, slowBlocks: 4 };
  const all = make('ttkv', ttkv);
  expectSame(all, make('gate(ttkv)', { keep: 1, ttkv }));
  const [open, half] = replay({ shape, seed: 5 }, [all, make('gate(ttkv)', { keep: 0.5, ttkv })]).map(
    recordOf,
  );
  const away = open.prefill.spillTokens[1];
  expect(half.prefill.spillTokens[1]).toBeLessThan(0.7 * away);
  expect(half.prefill.spillTokens[1]).toBeGreaterThan(0.3 * away);
  expect(half.afterPrefill.liveTokens).toBe(shape.promptTokens - away + half.prefill.spillTokens[1]);
});

test('a pyramid falls by equal steps and keeps the mean', () => {
  const layers = { ...shape, recordedLayers: [0, 1, 2, 3] };
  const policy = make('budget(snapkv)', { tokens: 100, beta: 4 });
  const [{ records }] = replay({ shape: layers, seed: 5 }, [policy]);
  const kept = [...records.values()].map(({ afterPrefill }) => afterPrefill.liveTokens);
  expect(kept).toEqual([175, 125, 75, 25]);
});

describe('the grammar', () => {
  test('nests, and keeps brackets of values whole', () => {
    const spec = parseSpec('perHead(stack(a:x=1;y=[1,2],b),c):heads=[0,3]');
    expect(nameOfSpec(spec)).toBe('per-head(stack(a,b),c)');
    expect(spec.params).toEqual([['heads', '[0,3]']]);
    expect(spec.parts[0].parts[0].params).toEqual([
      ['x', '1'],
      ['y', '[1,2]'],
    ]);
  });

  test.each([
    ['stack(quest', /closing bracket/],
    ['stack(quest))', /closing bracket/],
    ['stack(quest)', /2 to 8 policies.*got 1/],
    ['stak(quest,full)', /unknown combinator 'stak'.*stack/],
    ['stack(quest,quest)', /quest twice/],
    ['stack(quest,nothing)', /nothing/],
    ['stack(quest,full)x', /nothing between/],
  ])('%s is refused', (text, message) => {
    expect(() => findPolicy(text)).toThrow(message);
  });

  test('parts that both code KV, or both move it, are refused', () => {
    expect(() => make('stack(ttkv,pariskv)')).toThrow(/ttkv and pariskv both say how KV crosses the link/);
    expect(() => make('budget(full)')).toThrow(/full takes no token budget/);
  });
});
