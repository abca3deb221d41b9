/** Programs that the lowering makes: bytes scale with heads and batch, and overlap is what the transfer says. */
import { describe, expect, test } from 'vitest';
import { loadModel } from '../model/models.ts';
import type { Policy } from '../policy/policy.ts';
import { policyDefaults } from '../policy/policy.ts';
import type { Transfer } from '../policy/transfer.ts';
import { bytesOf } from '../program/bytes.ts';
import type { Operation } from '../program/operation.ts';
import { emptyDemand, type LayerDemand } from './demand.ts';
import { Lowering } from './lower.ts';

const model = loadModel('llama-3.1-8b');
const rowBytes = 256;

const policyWith = (transfer: Transfer): Policy => ({ ...policyDefaults, transfer, layer: () => ({}) });

const loweringOf = (transfer: Transfer, batch = 1, dense = false): Lowering =>
  new Lowering({
    model,
    policy: policyWith(transfer),
    forms: [{ name: 'raw', kBytesPerToken: rowBytes, vBytesPerToken: rowBytes }],
    batch,
    promptTokens: 1000,
    elementBytes: 2,
    layerDramBytes: 0,
    dense,
  });

const demand = (resident: number, fetched: number): LayerDemand => ({
  ...emptyDemand(1),
  attendTokens: resident + fetched,
  residentTokens: [resident],
  fetchTokens: [fetched],
  topks: [{ of: 1000, k: fetched, rows: 1 }],
});

const stepOf = (lowering: Lowering, step: number, choice: LayerDemand): readonly Operation[] =>
  lowering.step(
    step,
    model.layerKinds.map(() => ({ append: emptyDemand(1), choice })),
  ).operations;

const only = <K extends Operation['kind']>(operations: readonly Operation[], kind: K) =>
  operations.filter((operation): operation is Extract<Operation, { kind: K }> => operation.kind === kind);

const moved = (operations: readonly Operation[]): number =>
  only(operations, 'fetch').reduce((sum, { rows, rowBytes: bytes }) => sum + rows * bytes, 0);

const pages: Transfer = { mode: 'dma-batch', rowTokens: 16, joinHeads: false, joinKv: true, overlap: 'step' };

describe('the lowering of a step', () => {
  test('moves tokens × row bytes × KV heads × layers × batch, and reads what it attends', () => {
    const operations = stepOf(loweringOf(pages, 3), 0, demand(100, 64));
    expect(moved(operations)).toBe(64 * 512 * 8 * 32 * 3);
    const read = only(operations, 'attend').reduce((sum, o) => sum + (bytesOf(o).read.hbm ?? 0), 0);
    expect(read).toBe(164 * 512 * 8 * 32 * 3);
    expect(only(operations, 'fetch')[0]).toMatchObject({
      rows: 4 * 8 * 3,
      rowBytes: 16 * 512,
      stream: 'h2d',
    });
  });

  test('zero-copy rows cross on the compute stream, one K and one V row a token and head', () => {
    const uva: Transfer = { ...pages, mode: 'uva', rowTokens: 1, joinKv: false };
    const [fetch] = only(stepOf(loweringOf(uva), 0, demand(0, 100)), 'fetch');
    expect(fetch).toMatchObject({ rows: 2 * 100 * 8, rowBytes: 256, stream: 'compute' });
  });

  test('copied rows are attended to in pages that divide them, all others in the largest', () => {
    const pageOf = (rowTokens: number, fetched: number) =>
      only(stepOf(loweringOf({ ...pages, rowTokens }), 0, demand(100, fetched)), 'attend')[0].pageTokens;
    expect([1, 8, 24, 64, 128, Infinity].map((rowTokens) => pageOf(rowTokens, 100))).toEqual([
      1, 8, 8, 64, 64, 64,
    ]);
    expect(pageOf(16, 0)).toBeUndefined();
  });

  test('streamed pieces are attended one by one and merged; two staging buffers bound what runs ahead', () => {
    const stream: Transfer = { ...pages, mode: 'dma', overlap: 'stream', chunks: 4 };
    const lowering = loweringOf(stream);
    const operations = stepOf(lowering, 0, demand(100, 64)).filter(({ layer }) => layer === 0);
    expect(only(operations, 'attend')).toHaveLength(5);
    expect(only(operations, 'merge')).toMatchObject([{ parts: 5 }]);
    const fetches = only(operations, 'fetch');
    expect(fetches).toHaveLength(4);
    expect(fetches.slice(0, 2).every(({ after }) => after.length === 1)).toBe(true);
    expect(fetches.slice(2).every(({ after }) => after.length === 2)).toBe(true);
    expect(moved(operations)).toBe(64 * 512 * 8);
  });

  test('copies of a choice made ahead of time wait for staging buffers only', () => {
    const ahead: Transfer = {
      ...pages,
      mode: 'dma',
      overlap: 'stream',
      chunks: 2,
      buffers: 2,
      speculative: true,
    };
    const operations = stepOf(loweringOf(ahead), 0, demand(100, 64));
    const waits = only(operations, 'fetch').map(({ after }) => after);
    const pieces = operations.flatMap((operation, at) =>
      operation.kind === 'attend' && operation.after.length > 0 ? [at] : [],
    );
    expect(waits.slice(0, 2)).toEqual([[], []]);
    expect(waits.slice(2, 4)).toEqual([[pieces[0]], [pieces[1]]]);
  });

  test('loads that depend on no query wait for a free buffer only, across steps too', () => {
    const ahead: Transfer = {
      mode: 'dma',
      rowTokens: Infinity,
      joinHeads: true,
      joinKv: true,
      overlap: 'ahead',
      buffers: 2,
    };
    const lowering = loweringOf(ahead);
    const first = lowering.step(
      0,
      model.layerKinds.map(() => ({ append: emptyDemand(1), choice: demand(1, 1000) })),
    );
    const waits = only(first.operations, 'fetch').map(({ after }) => after);
    expect(waits[0]).toEqual([]);
    expect(waits[1]).toEqual([]);
    const attends = first.operations.flatMap((operation, at) => (operation.kind === 'attend' ? [at] : []));
    expect(waits[5]).toEqual([attends[3]]);
    const second = lowering.step(
      1,
      model.layerKinds.map(() => ({ append: emptyDemand(1), choice: demand(1, 1000) })),
    );
    expect(only(second.operations, 'fetch')[0].after).toEqual([attends[30]]);
  });

  test('a layer ahead, choice and copy are submitted while an earlier layer is, and attention waits for them', () => {
    const operations = stepOf(loweringOf({ ...pages, leadLayers: 2 }), 0, demand(100, 64));
    const at = (kind: Operation['kind'], layer: number): number =>
      operations.findIndex((operation) => operation.kind === kind && operation.layer === layer);
    expect(moved(operations)).toBe(64 * 512 * 8 * 32);
    // The first two layers choose for themselves, the others two layers before.
    expect(at('fetch', 1)).toBeGreaterThan(at('append', 1));
    for (let layer = 2; layer < 32; layer++) {
      expect(at('select', layer)).toBeGreaterThan(at('append', layer - 2));
      expect(at('fetch', layer)).toBeLessThan(at('attend', layer - 2));
      expect(operations[at('attend', layer)].after).toEqual([at('fetch', layer)]);
    }
  });

  test('attention on the CPU moves queries and outputs, no KV', () => {
    const choice = { ...demand(100, 64), farAttendTokens: 64 };
    const lowering = loweringOf({ ...pages, attendAt: 'cpu' }, 3);
    const operations = stepOf(lowering, 0, choice).filter(({ layer }) => layer === 0);
    const [out] = only(operations, 'spill');
    const [back] = only(operations, 'fetch');
    expect(out).toMatchObject({ rows: 3, rowBytes: 32 * 128 * 2, stream: 'd2h' });
    expect(back).toMatchObject({ rows: 3, rowBytes: 32 * (128 * 2 + 4), stream: 'h2d' });
    const [far, near] = only(operations, 'attend');
    expect(far).toMatchObject({ where: 'cpu', stream: 'cpu', contextTokens: 64 });
    expect(far.after).toEqual([operations.indexOf(out), operations.indexOf(only(operations, 'select')[0])]);
    expect(near.contextTokens).toBe(100);
    expect(far.readBytes).toEqual({ dram: 64 * 512 * 8 * 3 });
    expect(near.readBytes).toEqual({ hbm: 100 * 512 * 8 * 3 });
    expect(only(operations, 'merge')).toMatchObject([{ parts: 2, after: [operations.indexOf(back)] }]);
  });

  test('works run in the order of their declaration, across streams; index data crosses by copy engine', () => {
    const work = { readBytes: { hbm: 10, dram: 30 }, flops: 5, kernels: 2 };
    const works = [
      { ...work, index: 'codes', where: 'h2d', ahead: true },
      { ...work, index: 'hash' },
      { ...work, index: 'hashes', where: 'd2h' },
      { ...work, index: 'lookup', where: 'cpu' },
    ] as const;
    const choice = { ...demand(100, 64), works: [...works] };
    const operations = stepOf(loweringOf(pages), 0, choice).slice(1, 7);
    expect(operations.map(({ kind, stream, after }) => [kind, stream, after])).toEqual([
      ['fetch', 'h2d', []],
      ['score', 'compute', [1]],
      ['spill', 'd2h', [2]],
      ['score', 'cpu', [3]],
      ['select', 'compute', [4]],
      ['fetch', 'h2d', [5]],
    ]);
    expect(operations[0]).toMatchObject({ rows: 2, rowBytes: (30 * 8) / 2 });
    expect(operations[2]).toMatchObject({ rows: 2, rowBytes: (10 * 8) / 2 });
  });

  test("a cache's refill crosses the link and is waited for, but only what was chosen is read", () => {
    const append = { ...emptyDemand(1), refillTokens: [1000] };
    const { operations } = loweringOf(pages).step(
      0,
      model.layerKinds.map(() => ({ append, choice: demand(100, 0) })),
    );
    expect(moved(operations)).toBe(1000 * 512 * 8 * 32);
    const [attend] = only(operations, 'attend');
    expect(attend.readBytes).toEqual({ hbm: 100 * 512 * 8 });
    expect(attend.after).toEqual([operations.indexOf(only(operations, 'fetch')[0])]);
  });

  test('leaves out projections, MLP and head on request, and nothing else', () => {
    const withDense = stepOf(loweringOf(pages, 1, true), 0, demand(100, 64));
    const without = stepOf(loweringOf(pages, 1, false), 0, demand(100, 64));
    expect(without.length).toBe(withDense.length - only(withDense, 'dense').length);
    expect(only(withDense, 'dense')).toHaveLength(2 * 32 + 1);
    const weights = only(withDense, 'dense').reduce((sum, o) => sum + (bytesOf(o).read.hbm ?? 0), 0);
    // All parameters but the embedding table and the norms, in bf16.
    expect(weights / (2 * (8030261248 - 128256 * 4096))).toBeCloseTo(1, 3);
  });

  test('a sliding layer attends its window, whatever the context', () => {
    const gemma = loadModel('gemma-3-4b');
    const lowering = new Lowering({
      model: gemma,
      policy: policyWith(pages),
      forms: [{ name: 'raw', kBytesPerToken: 512, vBytesPerToken: 512 }],
      batch: 1,
      promptTokens: 9000,
      elementBytes: 2,
      layerDramBytes: 0,
      dense: false,
    });
    const attends = only(
      lowering.step(
        0,
        gemma.layerKinds.map(() => null),
      ).operations,
      'attend',
    );
    const tokens = attends.map(({ contextTokens }) => contextTokens);
    expect(new Set(tokens)).toEqual(new Set([1024, 9001]));
    expect(tokens.filter((n) => n === 9001)).toHaveLength(
      gemma.layerKinds.filter((kind) => kind === 'full').length,
    );
  });
});
