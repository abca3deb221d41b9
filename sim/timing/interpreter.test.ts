/** Programs of known timing on the interpreter: streams, overlap, sharing, the critical path. */
import { expect, test } from 'vitest';
import { ProgramBuilder } from '../program/builder.ts';
import type { Operation } from '../program/operation.ts';
import { Interpreter } from './interpreter.ts';
import type { OperationCost } from './operation-cost.ts';

const machine = {
  resources: [
    { name: 'hbm', label: 'hbm', rateBytesPerNs: 100 },
    { name: 'h2d', label: 'pcie.h2d', rateBytesPerNs: 10 },
  ],
} as const;

/** Kernels read HBM at 100 B/ns, copies cross at 10 B/ns and write HBM; 5 ns launch each. */
const price = (operation: Operation): OperationCost => {
  const common = { fixedNs: 5, intervalRatio: [0.9, 1.2], domain: 'calibrated' } as const;
  if (operation.kind === 'fetch') {
    const amount = operation.rows * operation.rowBytes;
    const demands = [
      { resource: 'h2d', bytesPerAmount: 1 },
      { resource: 'hbm', bytesPerAmount: 1 },
    ] as const;
    return { ...common, amount, soloRatePerNs: 10, demands, boundBy: 'pcie.h2d' };
  }
  if (operation.kind === 'append') {
    return {
      ...common,
      amount: operation.bytes,
      soloRatePerNs: 100,
      demands: [{ resource: 'hbm', bytesPerAmount: 1 }],
      boundBy: 'hbm',
    };
  }
  return { ...common, fixedNs: 0, amount: 0, soloRatePerNs: 0, demands: [], boundBy: 'launch' };
};

const kernel = (builder: ProgramBuilder, bytes: number, after: readonly number[] = []) =>
  builder.add({ kind: 'append', bytes, stream: 'compute', after });
const copyOf = (bytes: number) =>
  ({ kind: 'fetch', from: 'dram', to: 'hbm', rows: 1, rowBytes: bytes, mode: 'dma', stream: 'h2d' }) as const;
const copy = (builder: ProgramBuilder, bytes: number, after: readonly number[] = []) =>
  builder.add({ ...copyOf(bytes), after });

test('one stream runs in order, one after the other', () => {
  const builder = new ProgramBuilder();
  kernel(builder, 1000);
  kernel(builder, 2000);
  const interpreter = new Interpreter(machine, price);
  interpreter.submit(builder.take(), 0);
  expect(interpreter.runThrough(0)).toBeCloseTo(5 + 10 + 5 + 20, 9);
});

test('a copy overlaps kernels and takes its share of HBM from them', () => {
  const builder = new ProgramBuilder();
  copy(builder, 1000);
  kernel(builder, 9000);
  const interpreter = new Interpreter(machine, price);
  interpreter.submit(builder.take(), 0);
  // Both flow from 5 ns on: the copy at 10 B/ns for 100 ns, the kernel gets the other 90.
  expect(interpreter.runThrough(0)).toBeCloseTo(105, 9);
});

test('copies of one stream follow each other without a pause; those of two share the engine of their direction', () => {
  const run = (second: 'h2d' | 'compute', after: readonly number[]): number => {
    const builder = new ProgramBuilder();
    const first = copy(builder, 1000);
    const { stream: _, ...rest } = copyOf(1000);
    builder.add({ ...rest, stream: second, after: after.map(() => first) });
    builder.add({ kind: 'wait', stream: 'compute', after: [first + 1] });
    const interpreter = new Interpreter(machine, price);
    interpreter.submit(builder.take(), 0);
    return interpreter.runThrough(0);
  };
  expect(run('h2d', [])).toBeCloseTo(5 + 100 + 100, 9);
  // One engine a direction, first in, first out.
  expect(run('compute', [])).toBeCloseTo(5 + 100 + 5 + 100, 9);
  // What begins only when the other has ended shows.
  expect(run('h2d', [0])).toBeCloseTo(5 + 100 + 5 + 100, 9);
});

test('the critical path follows what was waited for, and its parts add up', () => {
  const builder = new ProgramBuilder();
  const fetched = copy(builder, 1000);
  kernel(builder, 500);
  kernel(builder, 500, [fetched]);
  const interpreter = new Interpreter(machine, price);
  interpreter.submit(builder.take(), 0);
  const endNs = interpreter.runThrough(0);
  expect(endNs).toBeCloseTo(105 + 10, 9);
  const { waitNs, loNs, hiNs, extrapolatedNs } = interpreter.criticalPath(-1, 0);
  expect(waitNs.get('pcie.h2d')).toBeCloseTo(100, 9);
  expect([...waitNs.values()].reduce((a, b) => a + b, 0)).toBeCloseTo(endNs, 9);
  expect(loNs).toBeCloseTo(0.9 * endNs, 9);
  expect(hiNs).toBeCloseTo(1.2 * endNs, 9);
  expect(extrapolatedNs).toBe(0);
});

test('what goes on of the prompt after its end is told from the step that waits for it', () => {
  const builder = new ProgramBuilder();
  const fetched = copy(builder, 1000);
  kernel(builder, 300);
  const interpreter = new Interpreter(machine, price);
  interpreter.submit(builder.take(), -1);
  const promptNs = interpreter.runThrough(-1);
  kernel(builder, 500, [fetched]);
  kernel(builder, 500);
  interpreter.submit(builder.take(), 0);
  const endNs = interpreter.runThrough(0);
  interpreter.finish();
  const path = interpreter.criticalPath(-1, 0);
  expect(promptNs).toBeLessThan(105);
  expect(path.promptNs).toBeCloseTo(105 - promptNs, 9);
  expect(path.promptNs).toBeLessThan(endNs - promptNs);
});

test('loads of the next step run ahead of its kernels; steps end in order', () => {
  const builder = new ProgramBuilder();
  const interpreter = new Interpreter(machine, price);
  const fetchedFirst = copy(builder, 100);
  const first = kernel(builder, 2000, [fetchedFirst]);
  interpreter.submit(builder.take(), 0);
  const fetchedSecond = copy(builder, 100, [fetchedFirst]);
  kernel(builder, 2000, [fetchedSecond, first]);
  interpreter.submit(builder.take(), 1);
  const step0 = interpreter.runThrough(0);
  const step1 = interpreter.runThrough(1);
  expect(step0).toBeCloseTo(5 + 10 + 5 + 20 + 1, 0);
  // The second step's copy was hidden behind the first step's kernel.
  expect(step1 - step0).toBeCloseTo(25, 6);
});

test('same program, same digest; another program, another digest', () => {
  const run = (bytes: number): string => {
    const builder = new ProgramBuilder();
    copy(builder, bytes);
    kernel(builder, 500);
    const interpreter = new Interpreter(machine, price);
    interpreter.submit(builder.take(), 0);
    interpreter.finish();
    return interpreter.digest();
  };
  expect(run(1000)).toBe(run(1000));
  expect(run(1001)).not.toBe(run(1000));
});

test('host threads that go on need not be told again', () => {
  const stepNs = (second: (builder: ProgramBuilder, first: number) => number): number => {
    const builder = new ProgramBuilder();
    const work = { kind: 'append', bytes: 1000, stream: 'cpu' } as const;
    const first = builder.add({ ...work, after: [kernel(builder, 1000)] });
    const last = builder.add({ ...work, after: [first, second(builder, first)] });
    kernel(builder, 1000, [last]);
    const interpreter = new Interpreter(machine, price);
    interpreter.submit(builder.take(), 0);
    return interpreter.runThrough(0);
  };
  // Four times 10 ns of work; the second piece on the CPU follows the first, or waits for another kernel, told anew.
  expect(stepNs((_, first) => first)).toBeCloseTo(15 + 15 + 10 + 15, 9);
  expect(stepNs((builder, first) => kernel(builder, 1000, [first]))).toBeCloseTo(5 * 15, 9);
});

test('launches that run ahead stop where the CPU must see what was chosen', () => {
  const ahead = (operation: Operation): OperationCost => ({ ...price(operation), hostNs: 30 });
  const stepNs = (awaitsChoice: boolean): number => {
    const builder = new ProgramBuilder();
    const chosen = kernel(builder, 20_000);
    const fetched = builder.add({ ...copyOf(1000), awaitsChoice, after: [chosen] });
    kernel(builder, 1000, [fetched]);
    for (let i = 0; i < 10; i++) kernel(builder, 100);
    const interpreter = new Interpreter(machine, ahead);
    interpreter.submit(builder.take(), 0);
    return interpreter.runThrough(0);
  };
  // All are launched, 30 ns each, while the first runs: 205 ns, the copy's 105, then kernels of 15 and of 6 ns.
  expect(stepNs(false)).toBeCloseTo(30 + 205 + 105 + 15 + 60, 9);
  // The copy is named when the first has ended; eleven launches follow it, of which the last comes after all else.
  expect(stepNs(true)).toBeCloseTo(30 + 205 + 30 + 11 * 30 + 6, 9);
});

test('launches that run ahead hide behind all of a step, and a step that is short waits for them', () => {
  const ahead = (operation: Operation): OperationCost => ({ ...price(operation), hostNs: 100 });
  const stepNs = (bytes: readonly number[]): readonly number[] => {
    const interpreter = new Interpreter(machine, ahead);
    let ended = 0;
    return [0, 1].map((step) => {
      const builder = new ProgramBuilder();
      for (const size of bytes) kernel(builder, size);
      interpreter.submit(builder.take(), step);
      const before = ended;
      ended = interpreter.runThrough(step);
      return ended - before;
    });
  };
  // Three launches of 100 ns, then the last kernel's own 5 + 10.
  for (const ns of stepNs([1000, 1000, 1000])) expect(ns).toBeCloseTo(300 + 15, 9);
  // The first kernel, launched after 100 ns, takes longer than the launches of the others.
  for (const ns of stepNs([100_000, 1000, 1000])) expect(ns).toBeCloseTo(100 + 1005 + 15 + 15, 9);
});
