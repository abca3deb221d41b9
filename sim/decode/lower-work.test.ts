/** What a program holds beyond one layer's own choice: choices for other layers, sparse prefill, weights, append work. */
import { expect, test } from 'vitest';
import { loadModel } from '../model/models.ts';
import { type Policy, policyDefaults, type Work } from '../policy/policy.ts';
import type { Transfer } from '../policy/transfer.ts';
import { bytesOf } from '../program/bytes.ts';
import type { Operation } from '../program/operation.ts';
import { emptyDemand } from './demand.ts';
import { Lowering } from './lower.ts';

const model = loadModel('llama-3.1-8b');

const loweringOf = (policy: Policy, batch = 1): Lowering =>
  new Lowering({
    model,
    policy,
    forms: [{ name: 'raw', kBytesPerToken: 256, vBytesPerToken: 256 }],
    batch,
    promptTokens: 1000,
    elementBytes: 2,
    layerDramBytes: 0,
    dense: false,
  });

const only = <K extends Operation['kind']>(operations: readonly Operation[], kind: K) =>
  operations.filter((operation): operation is Extract<Operation, { kind: K }> => operation.kind === kind);

const ahead: Transfer = {
  mode: 'dma',
  rowTokens: 1,
  joinHeads: true,
  joinKv: true,
  overlap: 'ahead',
  buffers: 2,
};

test('loads of a choice that another layer made wait for that layer, and for nothing of their own', () => {
  const policy: Policy = {
    ...policyDefaults,
    transfer: ahead,
    choiceLayer: () => 0,
    denseWork: (layer, tokens) =>
      layer > 0
        ? null
        : {
            works: [{ index: 'logits', readBytes: { hbm: tokens }, flops: 0, kernels: 1 }],
            topk: { of: tokens, k: 64, rows: 1 / model.kvHeads },
          },
    layer: () => ({}),
  };
  const choice = { ...emptyDemand(1), attendTokens: 74, residentTokens: [10], fetchTokens: [64] };
  const layers = model.layerKinds.map((_, layer) =>
    layer === 0 ? null : { append: emptyDemand(1), choice },
  );
  const { operations } = loweringOf(policy).step(0, layers);
  const chosen = operations.findIndex(({ kind }) => kind === 'select');
  expect(only(operations, 'select')).toMatchObject([{ layer: 0, rows: 1, of: 1001, k: 64 }]);
  expect(only(operations, 'score')).toMatchObject([{ layer: 0, readBytes: { hbm: 1001 * model.kvHeads } }]);
  const fetches = only(operations, 'fetch');
  expect(fetches).toHaveLength(31);
  // Layer 1 finds a free buffer; layer 3 waits for the attention of layer 1, too.
  expect(fetches[0].after).toEqual([chosen]);
  const attends = operations.flatMap(({ kind }, at) => (kind === 'attend' ? [at] : []));
  expect(fetches[2].after).toEqual([attends[1], chosen]);
});

test('a dense layer that attends to its own choice attends after it, and to no more', () => {
  const works = [{ index: 'logits', readBytes: { hbm: 8 }, flops: 0, kernels: 1 }];
  const topk = { of: 1001, k: 64, rows: 1 };
  const policy: Policy = {
    ...policyDefaults,
    denseWork: (layer) => (layer === 0 ? { works, topk, attendTokens: 64 } : null),
    layer: () => ({}),
  };
  const { operations } = loweringOf(policy).step(
    0,
    model.layerKinds.map(() => null),
  );
  const kinds = operations.filter(({ layer }) => layer === 0).map(({ kind }) => kind);
  expect(kinds).toEqual(['append', 'score', 'select', 'attend']);
  const tokens = only(operations, 'attend').map(({ contextTokens }) => contextTokens);
  expect(tokens).toEqual([64, ...model.layerKinds.slice(1).map(() => 1001)]);
});

test('attention reads whole pages where work lays its rows side by side, and those that were copied elsewhere', () => {
  const transfer = { ...policyDefaults.transfer, rowTokens: 8 };
  const pagesOf = (laysOut: boolean) => {
    const work: Work = { index: 'buffer', readBytes: { hbm: 8 }, flops: 0, kernels: 1, laysOut };
    const choice = {
      ...emptyDemand(1),
      attendTokens: 8,
      residentTokens: [4],
      fetchTokens: [4],
      works: [work],
    };
    const layers = model.layerKinds.map(() => ({ append: emptyDemand(1), choice }));
    const { operations } = loweringOf({ ...policyDefaults, transfer, layer: () => ({}) }).step(0, layers);
    expect(only(operations, 'score').every((one) => (one.laysOut ?? false) === laysOut)).toBe(true);
    return new Set(only(operations, 'attend').map(({ pageTokens }) => pageTokens));
  };
  expect(pagesOf(true)).toEqual(new Set([undefined]));
  expect(pagesOf(false)).toEqual(new Set([8]));
});

test('what runs beside copies and the CPU waits for neither, and neither for it', () => {
  const work = (index: string, more: Partial<Work>): Work => ({
    ...{ index, readBytes: { hbm: 8, dram: 8 }, flops: 0, kernels: 1 },
    ...more,
  });
  const works = [
    work('rank', {}),
    work('estimation', { beside: true }),
    work('ids', { where: 'd2h' }),
    work('table', { where: 'cpu' }),
    work('pages', { where: 'h2d' }),
    work('buffer', {}),
  ];
  const topks = [{ of: 64, k: 8, rows: 1, follows: 1 }];
  const choice = { ...emptyDemand(1), attendTokens: 8, residentTokens: [8], works, topks };
  const layers = model.layerKinds.map(() => ({ append: emptyDemand(1), choice }));
  const { operations } = loweringOf({ ...policyDefaults, layer: () => ({}) }).step(0, layers);
  const own = operations.slice(0, 9).map(({ kind, stream, after }) => ({ kind, stream, after }));
  expect(own).toEqual([
    { kind: 'append', stream: 'compute', after: [] },
    { kind: 'score', stream: 'compute', after: [] },
    { kind: 'select', stream: 'compute', after: [] },
    { kind: 'score', stream: 'compute', after: [] },
    { kind: 'spill', stream: 'd2h', after: [2] },
    { kind: 'score', stream: 'cpu', after: [4] },
    { kind: 'fetch', stream: 'h2d', after: [5] },
    { kind: 'score', stream: 'compute', after: [6] },
    { kind: 'attend', stream: 'compute', after: [] },
  ]);
});

test('sparse prefill costs the keys that it attends to, dense prefill half of the prompt', () => {
  const flops = (attendTokens: number): number => {
    const demand = { ...emptyDemand(1), attendTokens };
    const layers = model.layerKinds.map(() => ({ demand }));
    const { operations } = loweringOf({ ...policyDefaults, layer: () => ({}) }).prefill(layers);
    return only(operations, 'attend').reduce((sum, { flops }) => sum + flops, 0);
  };
  expect(flops(0)).toBe(32 * 4 * 32 * 128 * 1000 * 500);
  expect(flops(100)).toBe(flops(0) / 5);
});

test('weights of a policy are read once a layer; what an append takes is done before the choice', () => {
  const gate: Work = { index: 'gate', readBytes: { hbm: 2 }, flops: 8, kernels: 1, weightBytes: 1000 };
  const append = { ...emptyDemand(1), works: [gate] };
  const choice = { ...emptyDemand(1), attendTokens: 10, residentTokens: [10] };
  const layers = model.layerKinds.map(() => ({ append, choice }));
  const { operations } = loweringOf({ ...policyDefaults, layer: () => ({}) }, 3).step(0, layers);
  const scores = only(operations, 'score');
  expect(scores).toHaveLength(32);
  expect(bytesOf(scores[0]).read.hbm).toBe(1000 + 2 * 3 * 8);
  const kinds = operations.filter(({ layer }) => layer === 5).map(({ kind }) => kind);
  expect(kinds).toEqual(['append', 'score', 'attend']);
});
