/** The queue against a sorted array under random push, pop, cancel and shift: order is (timeNs, phase, push). */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { EventQueue } from './queue.ts';

interface ModelEvent {
  timeNs: number;
  readonly phase: number;
  readonly id: number;
  readonly handle: number;
}

const inOrder = (x: ModelEvent, y: ModelEvent): number =>
  x.timeNs - y.timeNs || x.phase - y.phase || x.id - y.id;

const command = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(fc.constant('push' as const), fc.nat(9), fc.nat(7)) },
  { weight: 4, arbitrary: fc.tuple(fc.constant('pop' as const), fc.nat(9), fc.nat(7)) },
  { weight: 3, arbitrary: fc.tuple(fc.constant('cancel' as const), fc.nat(1000), fc.nat(7)) },
  { weight: 1, arbitrary: fc.tuple(fc.constant('shift' as const), fc.nat(3), fc.nat(7)) },
);

/** Plays the commands on the queue and on a sorted array, and compares at every step. */
const play = (commands: readonly (readonly [string, number, number])[], sequenceLimit: number): void => {
  const queue = new EventQueue(1, sequenceLimit);
  const model: ModelEvent[] = [];
  const gone: number[] = [];
  let id = 0;
  const pop = (): void => {
    const expected = model.shift();
    expect(queue.nextTimeNs).toBe(expected === undefined ? Number.POSITIVE_INFINITY : expected.timeNs);
    const slot = queue.pop();
    if (expected === undefined) {
      expect(slot).toBe(-1);
      return;
    }
    expect([queue.timeNs, queue.kind[slot], queue.a[slot], queue.b[slot]]).toEqual([
      expected.timeNs,
      expected.phase + 10,
      expected.id,
      -expected.id,
    ]);
    gone.push(expected.handle);
  };
  for (const [name, x, phase] of commands) {
    if (name === 'push') {
      model.push({ timeNs: x, phase, id, handle: queue.push(x, phase, phase + 10, id, -id) });
      model.sort(inOrder);
      id++;
    } else if (name === 'pop') pop();
    else if (name === 'cancel' && model.length > 0) {
      const [event] = model.splice(x % model.length, 1);
      expect(queue.cancel(event.handle)).toBe(true);
      gone.push(event.handle);
    } else if (name === 'shift') {
      for (const event of model) event.timeNs += x;
      queue.shift(x);
    }
    expect(queue.size).toBe(model.length);
    for (const handle of gone.slice(-5)) expect(queue.cancel(handle)).toBe(false);
  }
  while (model.length > 0) pop();
  pop();
};

test('same order as a sorted array under random commands', () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 300 }), (commands) => play(commands, 2 ** 30)),
    { seed: 42, numRuns: 300 },
  );
});

test('renumbering keeps the order', () => {
  // At most 100 events pend, so the 128 sequence numbers run out again and again but never all at once.
  fc.assert(
    fc.property(fc.array(command, { minLength: 100, maxLength: 100 }), (commands) => play(commands, 101)),
    { seed: 42, numRuns: 100 },
  );
  const queue = new EventQueue(4, 8);
  for (let i = 0; i < 6; i++) queue.push(5, i & 1, i, 0, 0);
  const order: number[] = [];
  for (let i = 6; i < 100; i++) {
    order.push(queue.kind[queue.pop()]);
    queue.push(5, 1, i, 0, 0);
  }
  expect(order).toEqual([0, 2, 4, 1, 3, 5, ...Array.from({ length: 88 }, (_, i) => i + 6)]);
});

test('many cancelled events leave no trace and cost no memory', () => {
  const queue = new EventQueue();
  queue.push(2e9, 0, 1, 0, 0);
  for (let i = 0; i < 3_000_000; i++) queue.cancel(queue.push(1e9, 0, 2, 0, 0));
  expect(queue.size).toBe(1);
  expect(queue.kind.length).toBeLessThanOrEqual(128);
  expect(queue.kind[queue.pop()]).toBe(1);
  expect(queue.cancel(-1)).toBe(false);
  expect(queue.cancel(12345)).toBe(false);
});

test('more than 2^20 pending events are refused with a number', () => {
  const queue = new EventQueue(1 << 20);
  for (let i = 0; i < 1 << 20; i++) queue.push(i, 0, 0, 0, 0);
  expect(() => queue.push(0, 0, 0, 0, 0)).toThrow('more than 1048576 events');
});
