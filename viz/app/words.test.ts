/** The sentences of the page: captions from results of every shape, the experiment in words. */
import { describe, expect, it } from 'vitest';
import type { CompareResult, PolicyResult } from '../../sim/result.ts';
import { fixtureComparison } from '../../test/comparison.ts';
import { laneTimes, splitSteps } from './analysis.ts';
import { describeExperiment, flattenFields, titleOf } from './describe.ts';
import { flowFinding, scatterFinding, tableFinding, timelineFinding, winnerOf } from './findings.ts';

const { result, timelines } = fixtureComparison();
const named = (name: string): PolicyResult =>
  result.policies.find(({ policy }) => policy === name) ?? result.policies[0];
const only = (...policies: PolicyResult[]): CompareResult => ({ ...result, policies });

describe('findings', () => {
  it('names the fastest policy that keeps nearly all, against the quickest of the best', () => {
    expect(winnerOf(result)?.policy).toBe('pariskv');
    expect(scatterFinding(result)).toMatch(
      /^pariskv is the fastest to keep at least 95 % .* times as fast as full \(100 %\)\.$/,
    );
  });

  it('does not praise what does not fit', () => {
    const misfit = { ...named('full'), fits: false, stepNs: { mean: 1, p50: 1, p95: 1, p99: 1 } };
    expect(winnerOf(only(misfit, named('ttkv')))?.policy).toBe('ttkv');
    expect(scatterFinding(only(misfit))).toBe('No policy fits the memory of this machine.');
  });

  it('says when none keeps enough, and when quality is unknown', () => {
    expect(scatterFinding(only(named('snapkv'), named('streaming-llm')))).toMatch(
      /^No policy .* snapkv comes closest with 83\.3 %/,
    );
    expect(scatterFinding(only(named('wg-kv')))).toMatch(/does not allow quality/);
  });

  it('tells traffic and fit in the table, flows and timeline', () => {
    expect(tableFinding(result)).toBe(
      '10 policies; KV brought over the host link ranges from 0 B to 17.2 GB a step; h2o does not fit.',
    );
    expect(tableFinding(only(named('full')))).toBe(
      '1 policy; no policy brings KV over the host link; all of them fit.',
    );
    expect(flowFinding(named('ttkv'))).toMatch(/^In a step, ttkv brings 1\.98 GB in from DRAM/);
    const { timeline } = timelines.find(({ policy }) => policy === 'full-offload') ?? timelines[0];
    const [step] = splitSteps(timeline);
    expect(timelineFinding(named('full-offload'), step, laneTimes(timeline, step))).toMatch(
      /^Step 0 of full-offload takes 331 ms: the GPU waits 3\d\d ms \(9\d\.\d %\) for the copies into the GPU\./,
    );
  });
});

describe('the experiment in words', () => {
  it('makes a title and a sentence', () => {
    expect(titleOf(result.experiment)).toBe('llama-3.1-8b on h100-sxm');
    expect(describeExperiment(result.experiment, 10)).toBe(
      '10 KV-cache policies, 131,072 tokens of context, batch 1, 4 decode steps, synthetic attention in the manner of llama-3.1-8b.',
    );
  });

  it('bears fields that are missing, foreign or whole objects', () => {
    expect(titleOf({})).toBe('A model');
    expect(titleOf({ model: { model_type: 'llama' }, hardware: { name: 'mine' } })).toBe('llama on mine');
    expect(describeExperiment({ trace: { kind: 'file', name: 'a.safetensors' }, dense: false }, 1)).toBe(
      '1 KV-cache policy, attention recorded in a.safetensors, without projections and MLP.',
    );
  });

  it('lists every field by its dotted name', () => {
    expect(flattenFields({ a: { b: 1, c: [1, 2] }, d: [{ e: null }] })).toEqual([
      ['a.b', '1'],
      ['a.c', '1, 2'],
      ['d[0].e', 'null'],
    ]);
    const policies = [
      { label: 'quest', name: 'quest', config: { budget: 2048, dram: false } },
      { label: 'quest(dram)', name: 'quest', config: { budget: 2048 } },
    ];
    expect(flattenFields({ policies })).toEqual([
      ['policies: quest', 'budget 2048, dram false'],
      ['policies: quest(dram)', 'name quest, budget 2048'],
    ]);
  });
});
