/** Copy engines are FIFO, streams are in order, waits hold; two equal copies on two streams end at t and 2t. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createSimulator } from '../engine/simulator.ts';
import { createCopyEngine } from './copy-engine.ts';
import { createFabric } from './flow.ts';
import { createStreams } from './stream.ts';

interface Operation {
  readonly stream: number;
  readonly after: readonly number[];
  readonly bytes: number;
  readonly fixedNs: number;
}

/** Runs operations: stream 0 and 1 feed one copy engine, stream 2 runs without one. */
const play = (operations: readonly Operation[]) => {
  const simulator = createSimulator();
  const fabric = createFabric(simulator, [
    { name: 'h2d', rateBytesPerNs: 50 },
    { name: 'hbm', rateBytesPerNs: 3000 },
  ]);
  const engine = createCopyEngine(simulator, fabric, 'h2d');
  const copies = fabric.holdClass({
    capPerNs: 50,
    weight: 1,
    demands: [
      { resource: 0, bytesPerAmount: 1 },
      { resource: 1, bytesPerAmount: 1 },
    ],
  });
  const startNs: number[] = [];
  const endNs: number[] = [];
  const done = simulator.addHandler('done', (operation) => {
    expect(endNs[operation]).toBeUndefined();
    endNs[operation] = simulator.timeNs;
    streams.complete(operation);
  });
  const ready = simulator.addHandler('ready', (payload, operation) => {
    expect(payload).toBe(operation * 10);
    startNs[operation] = simulator.timeNs;
    const { stream, bytes, fixedNs } = operations[operation];
    if (stream < 2) engine.enter(operation, copies, bytes, fixedNs, done, operation);
    else simulator.schedule(simulator.timeNs + fixedNs, done, operation);
  });
  const streams = createStreams(simulator, 3, ready);
  for (const [i, { stream, after }] of operations.entries()) streams.submit(stream, after, i * 10);
  simulator.run();
  expect([streams.open, engine.depth]).toEqual([0, 0]);
  return { readyNs: startNs, endNs, busyNs: engine.busyNs, usedBytes: fabric.usedBytes(0) };
};

const copy = (stream: number, bytes: number, after: readonly number[] = [], fixedNs = 0): Operation => ({
  stream,
  after,
  bytes,
  fixedNs,
});

test('two equal copies on two streams end at t and 2t', () => {
  expect(play([copy(0, 5000), copy(1, 5000)]).endNs).toEqual([100, 200]);
});

test('a long copy holds up a short one behind it, and calls cost engine time', () => {
  const played = play([copy(0, 50_000), copy(1, 50, [], 9)]);
  expect(played.endNs).toEqual([1000, 1010]);
  expect(played.busyNs).toBe(1010);
});

test('an operation that is not ready holds up nobody; ready ones enter in submission order', () => {
  // 0 computes until 30; 1 waits for it; 2 starts at once on the other stream and runs until 40.
  const played = play([copy(2, 0, [], 30), copy(0, 500, [0]), copy(1, 2000)]);
  expect(played.endNs).toEqual([30, 50, 40]);
  // Both wait for 0 and become ready at one instant.
  expect(play([copy(2, 0, [], 30), copy(0, 500, [0]), copy(1, 500, [0])]).endNs).toEqual([30, 40, 50]);
});

test('order, causality and conservation hold for random programs', () => {
  const arbitrary = fc.array(
    fc.record({
      stream: fc.nat(2),
      bytes: fc.constantFrom(0, 50, 100, 5000),
      fixedNs: fc.constantFrom(0, 1, 30),
      back: fc.array(fc.integer({ min: 1, max: 6 }), { maxLength: 2 }),
    }),
    { maxLength: 40 },
  );
  fc.assert(
    fc.property(arbitrary, (drafts) => {
      const operations = drafts.map((draft, i) => ({
        ...draft,
        // A copy that takes no time could end before another of its instant enters; the order would be no test.
        bytes: draft.bytes + draft.fixedNs === 0 && draft.stream < 2 ? 50 : draft.bytes,
        after: draft.back.map((n) => i - n).filter((j) => j >= 0),
      }));
      const { readyNs, endNs, busyNs, usedBytes } = play(operations);
      let bytes = 0;
      let engineNs = 0;
      const last = [-1, -1, -1];
      const entered: number[] = [];
      for (const [i, operation] of operations.entries()) {
        const before = [...operation.after, ...(last[operation.stream] < 0 ? [] : [last[operation.stream]])];
        last[operation.stream] = i;
        expect(readyNs[i]).toBe(Math.max(0, ...before.map((j) => endNs[j])));
        if (operation.stream === 2) continue;
        bytes += operation.bytes;
        engineNs += operation.fixedNs + operation.bytes / 50;
        entered.push(i);
      }
      expect(usedBytes).toBeCloseTo(bytes, 6);
      expect(busyNs).toBeCloseTo(engineNs, 6);
      let freeNs = 0;
      entered.sort((i, j) => readyNs[i] - readyNs[j] || i - j);
      for (const i of entered) {
        freeNs = Math.max(freeNs, readyNs[i]) + operations[i].fixedNs + operations[i].bytes / 50;
        expect(Math.abs(endNs[i] - freeNs)).toBeLessThan(1e-6);
      }
    }),
    { seed: 42, numRuns: 300 },
  );
});

test('streams refuse what cannot be', () => {
  const simulator = createSimulator();
  const streams = createStreams(
    simulator,
    1,
    simulator.addHandler('ready', () => {}),
  );
  expect(() => streams.submit(1, [], 0)).toThrow('stream: expected 0 .. 0, got 1');
  const first = streams.submit(0, [], 0);
  const second = streams.submit(0, [], 0);
  expect(() => streams.submit(0, [99], 0)).toThrow('expected to wait for earlier ones, got 99');
  expect(() => streams.complete(second)).toThrow('it still waits for 1');
  expect(() => streams.clear()).toThrow('open operations');
  streams.complete(first);
  expect(() => streams.complete(first)).toThrow('it is complete already');
});
