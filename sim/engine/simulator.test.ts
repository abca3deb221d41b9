/** The loop: clock, phases, stopping, the past refused; queueing theory within 99 % batch-means intervals. */
import { expect, test } from 'vitest';
import { batchMeans, TimeWeighted } from '../../test/steady-state.ts';
import { PHASE_DISPATCH, PHASE_SETTLE } from './queue.ts';
import { createRandom } from './random.ts';
import { createRecorder } from './recorder.ts';
import { createSimulator } from './simulator.ts';

test('events run in order of time, phase and scheduling; the clock follows', () => {
  const recorder = createRecorder({ keepRows: true });
  const simulator = createSimulator({ recorder });
  const seen: string[] = [];
  const settle = simulator.addHandler('settle', () => seen.push(`settle@${simulator.timeNs}`), PHASE_SETTLE);
  const serve = simulator.addHandler('serve', () => seen.push(`serve@${simulator.timeNs}`), PHASE_DISPATCH);
  const work = simulator.addHandler('work', (a) => {
    seen.push(`work${a}@${simulator.timeNs}`);
    if (a === 1) simulator.schedule(simulator.timeNs, work, 3);
  });
  simulator.schedule(5, settle);
  simulator.schedule(5, serve);
  simulator.schedule(5, work, 1);
  simulator.schedule(5, work, 2);
  simulator.cancel(simulator.schedule(4, work, 9));
  expect(simulator.run(4)).toBe(0);
  expect(simulator.timeNs).toBe(4);
  expect(simulator.run()).toBe(5);
  expect(seen).toEqual(['work1@5', 'work2@5', 'work3@5', 'serve@5', 'settle@5']);
  expect(recorder.events).toBe(5);
  expect([...recorder.rows().subarray(0, 4)]).toEqual([5, work, 1, 0]);
});

test('nothing schedules in the past, at NaN or at infinity', () => {
  const simulator = createSimulator();
  const tick = simulator.addHandler('tick', () => {});
  simulator.run(100);
  for (const timeNs of [99.999, Number.NaN, Number.POSITIVE_INFINITY, -1]) {
    expect(() => simulator.schedule(timeNs, tick)).toThrow(
      `event tick scheduled for ${timeNs} ns at time 100 ns`,
    );
  }
  expect(() => simulator.run(50)).toThrow('expected a later time');
});

test('stop() keeps the rest for the next run; a split run changes nothing', () => {
  const record = (splits: readonly number[]): string => {
    const recorder = createRecorder();
    const simulator = createSimulator({ recorder });
    const random = createRandom(1, 'split');
    const tick = simulator.addHandler('tick', (a) => {
      if (a < 3000) simulator.schedule(simulator.timeNs + random.exponential(1), tick, a + 1);
      if (a % 7 === 0) simulator.stop();
    });
    simulator.schedule(0, tick, 0);
    for (const untilNs of splits) simulator.run(untilNs);
    while (simulator.pending > 0) simulator.run();
    expect(simulator.events).toBe(3001);
    expect(recorder.events).toBe(3001);
    return recorder.digest();
  };
  const whole = record([]);
  expect(record([1, 2, 3, 500, 1000.5])).toBe(whole);
});

test('a recorder that keeps rows has the same digest as one that does not', () => {
  const kept = createRecorder({ keepRows: true });
  const streamed = createRecorder();
  for (let i = 0; i < 5000; i++) {
    kept.record(i / 3, i & 7, i, -i);
    streamed.record(i / 3, i & 7, i, -i);
    if (i === 1500) expect(kept.digest()).toBe(streamed.digest());
  }
  expect(kept.digest()).toBe(streamed.digest());
  expect(kept.rows().length).toBe(20000);
});

/** A single-server FIFO queue: waiting times of all customers and the time-mean number in the system. */
const singleServer = (customers: number, lambda: number, serviceNs: () => number) => {
  const simulator = createSimulator();
  const arrivals = createRandom(42, 'arrivals');
  const arrivedNs = new Float64Array(customers);
  const waitNs = new Float64Array(customers);
  const inSystem = new TimeWeighted();
  const systemNs = new Float64Array(customers);
  let arrived = 0;
  let served = 0;
  const start = (customer: number): void => {
    waitNs[customer] = simulator.timeNs - arrivedNs[customer];
    simulator.schedule(simulator.timeNs + serviceNs(), depart, customer);
  };
  const depart = simulator.addHandler('depart', (customer) => {
    systemNs[customer] = simulator.timeNs - arrivedNs[customer];
    served++;
    inSystem.set(simulator.timeNs, inSystem.value - 1);
    if (served < arrived) start(served);
  });
  const arrive = simulator.addHandler('arrive', (customer) => {
    arrivedNs[customer] = simulator.timeNs;
    arrived++;
    inSystem.set(simulator.timeNs, inSystem.value + 1);
    if (arrived - served === 1) start(customer);
    if (arrived < customers) {
      simulator.schedule(simulator.timeNs + arrivals.exponential(1 / lambda), arrive, customer + 1);
    }
  });
  simulator.schedule(arrivals.exponential(1 / lambda), arrive, 0);
  simulator.run();
  expect(served).toBe(customers);
  return { waitNs, systemNs, timeNs: simulator.timeNs, meanInSystem: inSystem.mean(simulator.timeNs) };
};

const warm = (values: Float64Array): Float64Array => values.subarray(values.length / 10);

test.each([0.5, 0.8, 0.9])('M/M/1 at rho %d: W = 1 / (mu - lambda), L = lambda W', (rho) => {
  const customers = 600_000;
  const services = createRandom(42, 'services');
  const { systemNs, timeNs, meanInSystem } = singleServer(customers, rho, () => services.exponential(1));
  const interval = batchMeans(warm(systemNs), 32, 0.99);
  expect(Math.abs(interval.mean - 1 / (1 - rho))).toBeLessThan(interval.halfWidth);
  expect(interval.halfWidth / interval.mean).toBeLessThan(0.15);
  // Little's law is exact over a run that starts and ends empty.
  let sum = 0;
  for (let i = 0; i < customers; i++) sum += systemNs[i];
  expect(meanInSystem * timeNs).toBeCloseTo(sum, -1);
  expect(Math.abs((meanInSystem * timeNs) / sum - 1)).toBeLessThan(1e-9);
});

test.each([0.5, 0.8])('M/D/1 at rho %d: Wq = rho / (2 mu (1 - rho))', (rho) => {
  const { waitNs } = singleServer(600_000, rho, () => 1);
  const interval = batchMeans(warm(waitNs), 32, 0.99);
  expect(Math.abs(interval.mean - rho / (2 * (1 - rho)))).toBeLessThan(interval.halfWidth);
  expect(interval.halfWidth / interval.mean).toBeLessThan(0.1);
});
