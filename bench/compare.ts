/**
 * `compare` as a person runs it: six policies over a trace with queries and keys, 32K tokens of context, 64 steps, in the
 * shape of qwen2.5-0.5b, sampled as `auto` does. The trace is made before the clock runs, as if it came from a file.
 * Every run must have the same digest.
 */
import { compare } from '../sim/decode/compare.ts';
import { type CompareExperiment, compareExperimentSchema } from '../sim/experiment.ts';
import { catalog } from '../sim/policy/catalog.generated.ts';
import { createSyntheticTrace } from '../traces/attention/synthetic.ts';
import { type Bench, fastestOf } from './bench.ts';

const MODEL = 'qwen2.5-0.5b';
const CONTEXT_TOKENS = 32768;
const STEPS = 64;
const POLICIES = ['full', 'streaming-llm', 'snapkv', 'quest', 'ttkv', 'pariskv'] as const;
const SHAPE = { layers: 24, heads: 14, kvHeads: 2, headDim: 64, ropeTheta: 1_000_000 };
const SEED = 1;
/** Room for all rows that are replayed, so that no timed run makes any. */
const CACHE_BYTES = 2 ** 30;

const spec = { preset: MODEL, shape: SHAPE, promptTokens: CONTEXT_TOKENS, steps: STEPS, seed: SEED };

const experiment: CompareExperiment = compareExperimentSchema.parse({
  trace: { kind: 'synthetic', preset: MODEL, spec },
  model: MODEL,
  hardware: 'h100-sxm',
  stack: 'flashinfer-graphs',
  policies: POLICIES.map((name) => ({ label: name, name, config: catalog[name].config.parse({}) })),
  contextTokens: CONTEXT_TOKENS,
  steps: STEPS,
  batch: 1,
  dense: true,
  elementBytes: 2,
  layers: 'auto',
  kvHeads: 'auto',
  seed: SEED,
});

export const bench: Bench = {
  name: 'compare, six policies at 32K, 64 steps',
  // One in ten seconds.
  budget: 6,
  unit: 'comparisons/min',
  run(iterationsPerS) {
    const trace = createSyntheticTrace(spec, { cacheBytes: CACHE_BYTES });
    const digests = new Set<string>();
    const { seconds, last } = fastestOf(2, () => {
      const { result } = compare({ experiment, trace });
      digests.add(result.digest);
      return result;
    });
    const [sample] = last.notes;
    const detail = `${seconds.toFixed(1)} s, digest ${last.digest.slice(0, 16)} in ${digests.size === 1 ? 'every run' : 'not every run'}; ${sample}`;
    return {
      value: 60 / seconds,
      // Query rows times keys of the whole run, replayed or represented.
      ratio: (CONTEXT_TOKENS * STEPS * SHAPE.heads) / seconds / iterationsPerS,
      ok: digests.size === 1 && last.policies.length === POLICIES.length,
      detail,
    };
  },
};
