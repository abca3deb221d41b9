/** Every policy's step runs on the reference backend, touches the bytes of its program and computes exact attention. */
import { describe, expect, it } from 'vitest';
import { u32View } from '../../kernels/floats.ts';
import { openReference } from '../../kernels/reference.ts';
import { replaySteps } from '../../sim/decode/step-program.ts';
import { compareExperimentSchema } from '../../sim/experiment.ts';
import { PIECE_BYTES } from '../../sim/program/operation.ts';
import { createSyntheticTrace } from '../../traces/attention/synthetic.ts';
import { bindStep } from './bind.ts';
import { allocateFor, timeStep, writeTables } from './execute.ts';
import { laidOut } from './laid-out.ts';
import { imageOf } from './memory.ts';
import { programBytes, sumOfBytes } from './program-bytes.ts';
import { checkOutput } from './verify.ts';
import { workloadsOf } from './workload.ts';

const POLICIES = {
  full: {},
  'full-offload': {},
  'streaming-llm': { windowTokens: 60 },
  snapkv: { budgetTokens: 64 },
  h2o: { budgetTokens: 64 },
  quest: { budgetTokens: 64, denseLayers: 0 },
  arkvale: { budgetTokens: 64 },
  pqcache: { ratio: 0.2 },
  shadowkv: { budgetTokens: 32, rank: 64 },
  ttkv: {},
  pariskv: { topK: 32, localTokens: 64, sinkTokens: 4, minTokens: 0, updateTokens: 16 },
  magicpig: {},
  retroinfer: {
    retrievalRatio: 0.2,
    estimationRatio: 0,
    clusterTokens: 6,
    localTokens: 16,
    updateTokens: 32,
  },
  clusterkv: { budgetTokens: 64 },
  'wg-kv': {},
  kivi: {},
  infinigen: {},
  deltakv: {},
  flexgen: {},
  kvquant: {},
};

const spec = {
  preset: 'smollm2-135m',
  shape: { layers: 30, heads: 9, kvHeads: 3, headDim: 64, ropeTheta: 100_000 },
  promptTokens: 256,
  steps: 2,
  seed: 1,
};
const trace = createSyntheticTrace(spec);

const stepOf = (name: string, config: object) => {
  const experiment = compareExperimentSchema.parse({
    trace: { kind: 'synthetic', preset: spec.preset, spec },
    model: 'smollm2-135m',
    hardware: 'h100-sxm',
    stack: 'flashinfer-graphs',
    policies: [{ label: name, name, config }],
    contextTokens: spec.promptTokens,
    steps: spec.steps,
    batch: 1,
    dense: false,
    elementBytes: 2,
    layers: [2],
    kvHeads: 'all',
    seed: 1,
  });
  const [workload] = workloadsOf(replaySteps({ experiment, trace }), spec.promptTokens, 1, 3);
  return { workload, bound: bindStep(workload) };
};

describe('an executed step', () => {
  it.each(Object.entries(POLICIES))('of %s runs', async (name, config) => {
    const { workload, bound } = stepOf(name, config);
    const backend = openReference();
    const memory = await allocateFor(backend, [bound], 1);
    await writeTables(memory, bound);
    const { totalNs, operationNs } = await timeStep(backend, memory, bound, { warmups: 0, repeats: 1 });
    expect(totalNs).toHaveLength(1);
    expect(new Set(operationNs.map(({ at }) => workload.program.operations[at].kind))).toContain('attend');
    const check = await checkOutput(backend, memory, bound, (layer, kvHead) => ({
      keys: trace.keys(layer, kvHead),
      values: trace.values(layer, kvHead),
      queries: trace.queries(layer, workload.program.step, kvHead),
    }));
    // Keys, values and outputs are rounded to bf16.
    if (check.note === null) expect(check.outputError).toBeLessThan(1e-2);
    else expect(['coded KV', 'KV is kept once a query head']).toContain(check.note);
    const said = sumOfBytes(programBytes(workload.program.operations));
    // Whole pages and rows of so few tokens; scales of coded pages.
    expect(Math.abs(sumOfBytes(bound.binding.bytes) / said - 1)).toBeLessThan(0.03);
    expect(bound.binding.standIns).toEqual([]);
    backend.close();
  });
});

describe('a layer that keeps all and attends to its best tokens', () => {
  it.each([32, 200])('reads %i of them, the newest among them', (fullTokens) => {
    const { workload, bound } = stepOf('deltakv', { fullTokens });
    const first = bound.groups[0].attended[0].forms[0];
    const { tokens } = workload.program;
    for (const [row] of first.rows) {
      const { slot: start } = row.spans.segments[0];
      const last = row.spans.segments[row.spans.segments.length - 1];
      expect(row.spans.tokens).toBe(fullTokens);
      expect(last.slot + last.count).toBe(tokens);
      expect(start).toBeLessThan(tokens / fullTokens + 1);
    }
    const said = sumOfBytes(programBytes(workload.program.operations));
    expect(Math.abs(sumOfBytes(bound.binding.bytes) / said - 1)).toBeLessThan(0.03);
  });
});

describe('a selection in stages', () => {
  it('hands counts, candidates and estimates from one kernel to the next', () => {
    const { bound } = stepOf('pariskv', POLICIES.pariskv);
    const { calls } = bound.binding;
    const first = calls.findIndex(({ kernel }) => kernel === 'paris-tiers');
    const [tiers, collide, select, rerank, topk] = calls.slice(first, first + 5);
    expect([collide, select, rerank, topk].map(({ kernel }) => kernel)).toEqual([
      'paris-collide',
      'paris-select',
      'paris-rerank',
      'topk',
    ]);
    expect(collide.refs.tiers).toEqual(tiers.refs.tiers);
    expect(select.refs.collisions).toEqual(collide.refs.collisions);
    expect(rerank.refs.candidates).toEqual(select.refs.ids);
    expect(topk.refs.scores).toEqual(rerank.refs.estimates);
    expect(rerank.ints.count).toBe(select.ints.k);
    expect(topk.ints.of).toBe(rerank.ints.count);
  });

  it.each([
    ['attention', {}, 'attend'],
    ['products of their own', { fullTokens: 64 }, 'dot-score'],
  ] as const)('of deltakv ranks the largest of the logits that %s left', (_, config, maker) => {
    const { calls } = stepOf('deltakv', config).bound.binding;
    const at = calls.findIndex(({ kernel }) => kernel === 'reduce-scores');
    const [made, reduced, cleared, ranked] = calls.slice(at - 1, at + 3);
    expect(made.kernel).toBe(maker);
    expect(reduced.refs.scores).toEqual(made.refs[maker === 'attend' ? 'logits' : 'scores']);
    expect(cleared.kernel).toBe('preset');
    expect(cleared.refs.out).toEqual(reduced.refs.scores);
    expect(ranked.kernel).toBe('topk');
    expect(ranked.refs.scores).toEqual(reduced.refs.out);
  });

  it('sends the page table that host threads made of the chosen clusters', () => {
    const { calls } = stepOf('retroinfer', POLICIES.retroinfer).bound.binding;
    const at = calls.findIndex(({ kernel }) => kernel === 'cluster-table');
    const table = calls[at];
    const sent = calls.find(
      ({ kernel, refs }) => kernel === 'copy' && refs.source.buffer === table.refs.entries.buffer,
    );
    expect(sent?.stream).toBe('h2d');
    expect(sent?.refs.source).toEqual(table.refs.entries);
    expect(sent?.after).toContain(at);
  });

  it('attends to clusters in whole pages where they were laid side by side', () => {
    const { calls } = stepOf('retroinfer', POLICIES.retroinfer).bound.binding;
    const table = calls.findIndex(({ kernel }) => kernel === 'cluster-table');
    const gather = calls.findIndex(
      ({ kernel, stream }, at) => at > table && kernel === 'gather' && stream === 'compute',
    );
    const attend = calls.find(({ kernel }, at) => at > gather && kernel === 'attend');
    expect(attend?.ints.pageTokens).toBe(64);
    expect(calls[gather].refs.target.buffer).toBe(attend?.refs.pool.buffer);
    const pageBytes = attend?.ints.pageStride ?? 0;
    expect((calls[gather].refs.target.offset - (attend?.refs.pool.offset ?? 0)) % pageBytes).toBe(0);
  });

  it('counts the logits near the largest that a rehearsal leaves for the selection', () => {
    const { calls } = stepOf('infinigen', POLICIES.infinigen).bound.binding;
    const at = calls.findIndex(({ kernel }) => kernel === 'near-count');
    const [partial, products, count, topk] = calls.slice(at - 2, at + 2);
    expect([partial.kernel, products.kernel, topk.kernel]).toEqual(['gemm', 'dot-score', 'topk']);
    expect(products.refs.queries).toEqual(partial.refs.out);
    expect(count.refs.scores).toEqual(products.refs.scores);
    expect(topk.refs.scores).toEqual(products.refs.scores);
  });

  it('looks codes up where they were copied for each query head', () => {
    const { calls } = stepOf('pqcache', POLICIES.pqcache).bound.binding;
    const at = calls.findIndex(({ kernel }) => kernel === 'pq-passes');
    const [copied, products, topk] = calls.slice(at - 1, at + 2);
    expect([copied.kernel, topk.kernel]).toEqual(['gather', 'topk']);
    expect(products.refs.codes).toEqual(copied.refs.target);
    expect(copied.ints.rowBytes).toBe(8 * products.ints.subspaces * products.ints.codeStride);
    expect(topk.refs.scores).toEqual(products.refs.scores);
  });

  it('ranks the scores that were left for it', () => {
    const { bound } = stepOf('shadowkv', POLICIES.shadowkv);
    const { calls } = bound.binding;
    const at = calls.findIndex(({ kernel }) => kernel === 'softmax-mass');
    expect(calls[at].refs.scores).toEqual(calls[at - 1].refs.scores);
    expect(calls[at + 1].kernel).toBe('topk');
    expect(calls[at + 1].refs.scores).toEqual(calls[at].refs.mass);
  });
});

describe('non-uniform codes', () => {
  it('are attended as one part beside raw tokens, and written by a kernel of their own', () => {
    const { bound } = stepOf('kvquant', {});
    const { calls, standIns } = bound.binding;
    const attends = calls.filter(({ kernel }) => kernel === 'nuq-attend' || kernel === 'attend');
    const encode = calls.find(({ kernel }) => kernel === 'nuq-encode');
    const [codes, raw] = ['nuq-attend', 'attend'].map((name) =>
      attends.find(({ kernel }) => kernel === name),
    );
    expect(new Set([codes?.ints.part, raw?.ints.part])).toEqual(new Set([0, 1]));
    expect(codes?.refs.out).toEqual(raw?.refs.out);
    expect(codes?.ints.outliers).toBe(encode?.ints.outliers);
    // Keys are coded as they were before rotary embedding.
    expect(codes?.reals?.theta).toBeGreaterThan(0);
    expect(standIns).toEqual([]);
  });
});

describe('attention as it is laid out', () => {
  it.each(Object.entries(POLICIES))('of %s has the pages and rows of its calls', (name, config) => {
    const { bound } = stepOf(name, config);
    const { calls, operationOf, layout } = bound.binding;
    const operations = laidOut(bound);
    calls.forEach(({ kernel, ints, stream, refs }, at) => {
      const operation = operations[operationOf[at]];
      if (kernel !== 'attend' || stream !== 'compute' || operation.kind !== 'attend') return;
      expect(ints.pageTokens).toBeGreaterThanOrEqual(operation.pageTokens ?? Infinity);
      expect(ints.rows).toBe(operation.kvHeads * operation.sequences);
      const table = layout.writes.find(
        ({ ref }) => ref.buffer === refs.tokens.buffer && ref.offset === refs.tokens.offset,
      );
      const tokens = table === undefined ? [] : [...u32View(imageOf([table]))].slice(0, operation.kvHeads);
      expect(tokens).toHaveLength(operation.kvHeads);
      const forms = calls.filter((call, i) => call.kernel === 'attend' && operationOf[i] === operationOf[at]);
      if (operation.rowTokens !== undefined) expect([...operation.rowTokens]).toEqual(tokens);
      else if (operation.coded === undefined && forms.length === 1) expect(new Set(tokens).size).toBe(1);
    });
  });
});

describe('a copy of chosen rows', () => {
  it.each(['retroinfer', 'clusterkv', 'pariskv'] as const)(
    'of %s brings as many bytes from as many pieces as its operation says',
    (name) => {
      const { workload, bound } = stepOf(name, POLICIES[name]);
      const { calls, operationOf, layout } = bound.binding;
      const gathers = calls.flatMap((call, i) => (call.kernel === 'gather' ? [{ call, i }] : []));
      expect(gathers.length).toBeGreaterThan(0);
      for (const { call, i } of gathers) {
        const operation = workload.program.operations[operationOf[i]];
        if (operation.kind !== 'fetch') continue;
        const { rows, rowBytes } = call.ints;
        expect(rows * rowBytes).toBeCloseTo(operation.rows * operation.rowBytes, 0);
        const { buffer, offset } = call.refs.index;
        const table = layout.writes.find(({ ref }) => ref.buffer === buffer && ref.offset === offset);
        const index = table === undefined ? [] : u32View(imageOf([table]));
        const pieces = new Set(Array.from(index, (row) => Math.floor((row * rowBytes) / PIECE_BYTES)));
        // Heads begin anywhere within a piece, and so few tokens make small regions.
        expect(pieces.size).toBeLessThanOrEqual(operation.pieces ?? 0);
        expect(pieces.size).toBeGreaterThanOrEqual((operation.pieces ?? 0) / (2 * trace.shape.kvHeads));
      }
    },
  );
});
