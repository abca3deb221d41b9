/**
 * What every policy of the catalog promises, on random traces and with parameters drawn from its schema; a new policy
 * is covered by being in the folder.
 */
import { fileURLToPath } from 'node:url';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  anyConfig,
  anyShape,
  type Config,
  extremeConfig,
  plugins,
  policyOrNull,
  smallDefaults,
  worldOf,
} from '../../test/policy-cases.ts';
import { checkLaws, replay, replayTrace, standard } from '../../test/policy-laws.ts';
import { openAttentionFile } from '../../traces/attention/node-file.ts';
import { mean } from '../engine/stats.ts';
import { IN_DRAM, IN_HBM } from '../memory/head-cache.ts';
import { createPolicy } from '../policy/create-policy.ts';
import { type LayerPolicy, type Policy, type PolicyPlugin, policyDefaults } from '../policy/policy.ts';
import type { AttentionTraceShape } from '../trace/attention-trace.ts';
import { windowTrace } from '../trace/window.ts';

/** The end of a real prompt in one layer, where the mass of a query is spread as no random trace has it. */
const prompt = windowTrace(
  openAttentionFile(
    fileURLToPath(new URL('../../traces/samples/smollm2-135m-book.safetensors', import.meta.url)),
  ),
  1000,
  8,
);
const captured = { ...prompt, shape: { ...prompt.shape, recordedLayers: [18] } };

const RUNS = 4;

describe.each(plugins)('$name', (plugin) => {
  test('keeps the laws on random traces, whatever its parameters', () => {
    let kept = 0;
    const law = (shape: AttentionTraceShape, seed: number, config: Config): void => {
      const world = worldOf(shape);
      const policy = policyOrNull(plugin, config, world);
      if (policy === null) return;
      kept++;
      checkLaws({ shape, seed, policy, world });
    };
    fc.assert(fc.property(anyShape, fc.nat(999), anyConfig(plugin), law), {
      seed: 42,
      numRuns: RUNS,
      examples: [[standard, 7, smallDefaults(plugin)]],
    });
    expect(kept, 'configurations that were not refused').toBeGreaterThan(RUNS / 2);
  });

  test('runs, or is refused by name, with numbers at the ends of their ranges', () => {
    const shape = { ...standard, promptTokens: 150, steps: 2 };
    const world = worldOf(shape);
    const law = (config: Config): void => {
      const policy = policyOrNull(plugin, config, world);
      if (policy === null) return;
      const [{ quality }] = replay({ shape, seed: 1 }, [policy]);
      for (const recall of quality.massRecall) expect(recall).toBeGreaterThanOrEqual(0);
    };
    fc.assert(fc.property(extremeConfig(plugin), law), { seed: 42, numRuns: 8 });
  });

  if (plugin.atBudget !== undefined) testBudgets(plugin, plugin.atBudget);
});

function testBudgets(plugin: PolicyPlugin, atBudget: NonNullable<PolicyPlugin['atBudget']>): void {
  const shape = { ...standard, recordedLayers: [0, 1, 2, 3], steps: 6 };
  const world = worldOf(shape);
  const at = (tokens: number): Policy => createPolicy(plugin, atBudget(tokens, world), world);
  const budgets = [32, 80, 200];

  test('holds its token budget, and uses it', () => {
    replay({ shape, seed: 3 }, budgets.map(at)).forEach(({ records }, i) => {
      for (let s = 0; s < shape.steps; s++) {
        const attended = mean([...records.values()].map(({ choices }) => choices[s].attendTokens));
        expect(attended).toBeLessThanOrEqual(budgets[i] + s + 1);
        expect(attended).toBeGreaterThanOrEqual(budgets[i] / 2);
      }
    });
  });

  test('with the whole context as its budget it is full attention', () => {
    const [{ quality }] = replay({ shape, seed: 3 }, [at(4 * world.maxTokens)]);
    for (const recall of quality.massRecall) expect(recall).toBeCloseTo(1, 5);
  });

  test('loses less with more tokens on real attention', () => {
    const real = captured.shape;
    const policies = budgets.map((tokens) => {
      const realWorld = worldOf(real);
      return createPolicy(plugin, atBudget(tokens, realWorld), realWorld);
    });
    const recalls = replayTrace(captured, policies).map(({ quality }) => mean(quality.massRecall));
    expect(recalls).toEqual([...recalls].sort((a, b) => a - b));
  });
}

describe('the laws see what they forbid', () => {
  const world = worldOf(standard);
  const lawless: Readonly<Record<string, LayerPolicy>> = {
    'a choice by the rows of dropped tokens': {
      onPrefill: ({ heads }) => {
        for (const { cache } of heads) cache.drop(10, 20);
      },
      select: ({ heads }, picks) =>
        picks.forEach((pick, at) => {
          pick.take(0, heads[at].keys[12 * world.headDim] > 50 ? 5 : 6);
        }),
    },
    'a choice by keys of the future': {
      select: ({ heads }, picks) =>
        picks.forEach((pick, at) => {
          pick.take(0, heads[at].keys[(world.maxTokens - 1) * world.headDim] > 0 ? 10 : 11);
        }),
    },
    'a token that comes back': {
      onPrefill: ({ heads }) => heads[0].cache.drop(10, 20),
      onAppend: ({ heads }) => {
        heads[0].cache.place[15] = IN_HBM;
        heads[0].cache.place[16] = 0;
      },
    },
    'bytes beside the ledger': {
      onPrefill: ({ heads }) => heads[0].cache.place.fill(IN_DRAM, 0, 10),
    },
    'nothing attended': { select: (_, picks) => picks[0].none() },
  };
  test.each(Object.entries(lawless))('%s', (_, hooks) => {
    const policy: Policy = { ...policyDefaults, layer: () => hooks };
    // Both signs of the future, so that one of them differs.
    const check = (): void => {
      for (let seed = 1; seed <= 4; seed++) checkLaws({ shape: standard, seed, policy, world });
    };
    expect(check).toThrow();
  });
});
