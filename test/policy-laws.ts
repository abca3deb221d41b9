/**
 * The laws of the contract, as checks of one policy on one random trace: what a token's state may be, what may be read,
 * that bytes are the same in caches, demands and programs, and that nothing but the past decides.
 */
import { expect } from 'vitest';
import type { LayerDemand } from '../sim/decode/demand.ts';
import { formsOf, type LayerReplay } from '../sim/decode/head-replay.ts';
import { Lowering } from '../sim/decode/lower.ts';
import { type LayerRecord, type PolicyReplay, replayPolicies } from '../sim/decode/replay.ts';
import { everyStep, type StepSample } from '../sim/decode/step-sample.ts';
import { IN_DRAM, IN_HBM, IN_NVME } from '../sim/memory/head-cache.ts';
import { loadModel } from '../sim/model/models.ts';
import type { HeadView, Policy, Work, World } from '../sim/policy/policy.ts';
import { bytesOf } from '../sim/program/bytes.ts';
import type { Operation } from '../sim/program/operation.ts';
import type { AttentionTrace, AttentionTraceShape } from '../sim/trace/attention-trace.ts';
import { createRandomTrace } from '../sim/trace/random-trace.ts';
import { worldOf } from './policy-cases.ts';
import { probe } from './policy-probe.ts';

/** The layer that is looked at. */
export const LAYER = 2;

export interface Case {
  readonly shape: AttentionTraceShape;
  readonly seed: number;
  readonly policy: Policy;
  readonly world: World;
}

export const replayTrace = (
  trace: AttentionTrace,
  policies: readonly Policy[],
  sampled: StepSample = everyStep,
): readonly PolicyReplay[] => {
  const { shape } = trace;
  const kvHeads = Array.from({ length: shape.kvHeads }, (_, head) => head);
  const sample = { layers: shape.recordedLayers, kvHeads, ...sampled };
  return replayPolicies({ trace, world: worldOf(shape), sample, steps: shape.steps, seed: 1, policies });
};

export const replay = (
  { shape, seed }: Pick<Case, 'shape' | 'seed'>,
  policies: readonly Policy[],
  { otherFrom = Infinity, sampled = everyStep }: { otherFrom?: number; sampled?: StepSample } = {},
): readonly PolicyReplay[] => replayTrace(createRandomTrace({ shape, seed, otherFrom }), policies, sampled);

export const recordOf = (run: PolicyReplay): LayerRecord => {
  const record = run.records.get(LAYER);
  if (record === undefined) throw new Error(`layer ${LAYER} was not replayed`);
  return record;
};

/** Every token in one state, counters as a recount gives them, and nothing back from the dropped. */
const checkCache = ({ cache }: HeadView, dropped: Uint8Array): void => {
  const forms = cache.forms.length;
  const none = (): number[] => new Array<number>(forms).fill(0);
  const counted = { hbm: none(), dram: none(), nvme: none() };
  let live = 0;
  let wrong = 0;
  for (let token = 0; token < cache.capacityTokens; token++) {
    const place = cache.place[token];
    const form = cache.form[token];
    if (place !== 0) {
      live++;
      if (dropped[token] === 1 || token >= cache.tokens || form >= forms || cache.copies[token] === 0)
        wrong++;
    } else if (token < cache.tokens) dropped[token] = 1;
    if ((place & IN_HBM) !== 0) counted.hbm[form] += cache.copies[token];
    // DRAM is home to one copy, whoever has others in HBM.
    if ((place & IN_DRAM) !== 0) counted.dram[form]++;
    if ((place & IN_NVME) !== 0) counted.nvme[form]++;
  }
  expect(wrong, 'tokens dropped and live, or live and unwritten').toBe(0);
  expect(cache.liveTokens).toBe(live);
  for (const tier of ['hbm', 'dram', 'nvme'] as const) {
    const tokens = cache.forms.map((_, form) => cache.tokensIn(tier, form));
    expect(tokens).toEqual(counted[tier]);
    let bytes = 0;
    cache.forms.forEach(({ kBytesPerToken, vBytesPerToken }, form) => {
      bytes += counted[tier][form] * (kBytesPerToken + vBytesPerToken);
    });
    for (const meta of cache.meta.values()) {
      const held = tier === 'nvme' ? 0 : meta[tier];
      expect(held).toBeGreaterThanOrEqual(0);
      bytes += held;
    }
    expect(cache.residentBytes(tier)).toBeCloseTo(bytes, 6);
  }
};

const checkSelection = (replay: LayerReplay): void => {
  replay.selections.forEach(({ all, marks, length }, at) => {
    const { cache } = replay.heads[at];
    let dead = 0;
    let chosen = 0;
    for (let token = 0; token < length; token++) {
      if (!all && marks[token] === 0) continue;
      chosen++;
      if (!cache.isLive(token)) dead++;
    }
    expect(dead, 'dropped tokens that are attended').toBe(0);
    expect(chosen, 'attended tokens').toBeGreaterThan(0);
  });
};

/** Steps a policy by hand; `poison` overwrites the rows of what it dropped, which it then cannot have read. */
const step = ({ shape, seed, policy, world }: Case, poison: boolean) => {
  const dropped = Array.from({ length: shape.kvHeads }, () => new Uint8Array(world.maxTokens));
  const trace = createRandomTrace({ shape, seed });
  return probe({
    policy,
    world,
    trace,
    layer: LAYER,
    steps: shape.steps,
    after(replay, hook) {
      replay.heads.forEach((head, at) => {
        checkCache(head, dropped[at]);
        if (!poison) return;
        for (let token = 0; token < world.maxTokens; token++) {
          if (dropped[at][token] === 0) continue;
          head.keys.fill(99 + token, token * world.headDim, (token + 1) * world.headDim);
          head.values?.fill(-99, token * world.headDim, (token + 1) * world.headDim);
        }
      });
      if (hook === 'select') checkSelection(replay);
    },
  });
};

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** What the policy's demands weigh, and what the operations of their program carry: the same bytes. */
const checkProgram = ({ shape, policy, world }: Case, record: LayerRecord): void => {
  const forms = formsOf(policy, world);
  const batch = 3;
  const model = loadModel({
    model_type: 'llama',
    architectures: ['LlamaForCausalLM'],
    hidden_size: shape.heads * shape.headDim,
    head_dim: shape.headDim,
    intermediate_size: 128,
    num_hidden_layers: 1,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.kvHeads,
    vocab_size: 100,
    max_position_embeddings: 4096,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    torch_dtype: 'bfloat16',
  });
  const lowering = new Lowering({
    model,
    policy,
    forms,
    batch,
    promptTokens: world.promptTokens,
    elementBytes: 2,
    layerDramBytes: 0,
    dense: false,
  });
  const weigh = (tokens: readonly number[], asRead = false): number => {
    const bytesOf = (form: number): number => {
      const { kBytesPerToken, vBytesPerToken } = forms[asRead && forms[form].isRebuilt ? 0 : form];
      return kBytesPerToken + vBytesPerToken;
    };
    return sum(tokens.map((count, form) => count * bytesOf(form))) * shape.kvHeads * batch;
  };
  /** Bytes that operations of a kind read: transfers, on the link to the GPU or between DRAM and NVMe. */
  const carried = (operations: readonly Operation[], kind: Operation['kind'], byDrive = false): number =>
    sum(
      operations.flatMap((operation) => {
        const { read } = bytesOf(operation);
        return operation.kind === kind && (operation.stream === 'nvme') === byDrive
          ? Object.values(read)
          : [];
      }),
    );
  const spilled = ({ spillTokens }: LayerDemand): number => weigh(spillTokens);
  /** Index data (codes, ids) that crosses beside the KV. */
  const indexed = (works: readonly Work[], where: 'h2d' | 'd2h'): number =>
    sum(works.map((work) => (work.where === where ? sum(Object.values(work.readBytes)) : 0))) *
    shape.kvHeads *
    batch;
  const prompt = lowering.prefill([{ demand: record.prefill }]).operations;
  const prepared = indexed(policy.prefillWork, 'd2h') * world.promptTokens;
  expect(carried(prompt, 'spill')).toBeCloseTo(spilled(record.prefill) + prepared, 3);
  expect(carried(prompt, 'spill', true)).toBeCloseTo(weigh(record.prefill.storeTokens), 3);
  record.choices.forEach((choice, at) => {
    const append = record.appends[at];
    const { operations } = lowering.step(at, [{ append, choice }]);
    const fetched = sum(
      [choice.fetchTokens, choice.refillTokens, append.refillTokens].map((tokens) => weigh(tokens)),
    );
    // To attention on the CPU queries and outputs cross, and KV does not.
    if (policy.transfer.attendAt !== 'cpu') {
      expect(carried(operations, 'fetch')).toBeCloseTo(fetched + indexed(choice.works, 'h2d'), 3);
      const out = spilled(choice) + spilled(append) + indexed(choice.works, 'd2h');
      expect(carried(operations, 'spill')).toBeCloseTo(out, 3);
    }
    expect(carried(operations, 'fetch', true)).toBeCloseTo(
      weigh(append.loadTokens) + weigh(choice.loadTokens),
      3,
    );
    expect(carried(operations, 'spill', true)).toBeCloseTo(
      weigh(append.storeTokens) + weigh(choice.storeTokens),
      3,
    );
    // What refills a cache is read by attention once it is chosen; rebuilt rows are read raw.
    const read = weigh(choice.fetchTokens, true) + weigh(choice.residentTokens, true);
    expect(carried(operations, 'attend')).toBeCloseTo(read, 3);
    for (const tokens of [...choice.residentTokens, ...choice.fetchTokens, ...choice.refillTokens])
      expect(tokens).toBeGreaterThanOrEqual(0);
  });
};

/** KV outside HBM came over the link: all is written in HBM. */
const checkCrossings = ({ world }: Case, record: LayerRecord): void => {
  let crossed = sum(record.prefill.spillTokens);
  record.residency.forEach(({ liveTokens, dramBytes, nvmeBytes }, at) => {
    crossed += sum(record.appends[at].spillTokens) + sum(record.choices[at].spillTokens);
    expect(liveTokens).toBeLessThanOrEqual(world.promptTokens + at + 1);
    if (crossed === 0) expect(sum(record.choices[at].fetchTokens)).toBe(0);
    if (dramBytes + nvmeBytes === 0) expect(sum(record.choices[at].fetchTokens)).toBe(0);
  });
};

const checkQuality = ({ quality }: PolicyReplay, queryHeads: number, steps: number): void => {
  expect(quality.massRecall.length).toBe(queryHeads * steps);
  for (const recall of [...quality.massRecall, ...quality.topkRecall]) {
    expect(recall).toBeGreaterThanOrEqual(0);
    expect(recall).toBeLessThanOrEqual(1);
  }
};

export const checkLaws = (given: Case): void => {
  const { shape, policy } = given;
  expect(step(given, true), 'choices after rows of dropped tokens changed').toEqual(step(given, false));
  const [run] = replay(given, [policy]);
  const record = recordOf(run);
  checkQuality(run, shape.heads, shape.steps);
  checkProgram(given, record);
  checkCrossings(given, record);

  if (!policy.learns) {
    const [unmeasured] = replay(given, [policy], { sampled: { everySteps: 4, leadSteps: 3 } });
    expect(recordOf(unmeasured).choices, 'choices where one step in four is measured').toEqual(
      record.choices,
    );
    const [sparse] = replay(given, [policy], { sampled: { everySteps: 4, leadSteps: 0 } });
    expect(recordOf(sparse).appends).toEqual(record.appends);
    expect(recordOf(sparse).choices[0]).toEqual(record.choices[0]);
  }
  if (policy.oracle) return;
  const half = shape.steps / 2;
  const [other] = replay(given, [policy], { otherFrom: shape.promptTokens + half });
  const otherRecord = recordOf(other);
  expect(otherRecord.prefill).toEqual(record.prefill);
  expect(otherRecord.appends.slice(0, half)).toEqual(record.appends.slice(0, half));
  expect(otherRecord.choices.slice(0, half)).toEqual(record.choices.slice(0, half));
  const seen = half * shape.heads;
  expect(other.quality.massRecall.slice(0, seen)).toEqual(run.quality.massRecall.slice(0, seen));
};

/** Room for what small budgets leave out; four query heads a KV head. */
export const standard: AttentionTraceShape = {
  layers: 4,
  heads: 8,
  kvHeads: 2,
  headDim: 32,
  promptTokens: 480,
  steps: 8,
  recordedLayers: [LAYER],
};
