/** Sharing: laws (conservation, capacity, causality, work conservation, scaling) and a naive solver that must agree. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { batchMeans } from '../../test/steady-state.ts';
import { createRandom } from '../engine/random.ts';
import { createSimulator } from '../engine/simulator.ts';
import { createFabric } from './flow.ts';
import type { FlowDemand } from './flow-class.ts';

interface TestFlow {
  readonly startNs: number;
  readonly latencyNs: number;
  readonly amount: number;
  readonly capPerNs: number;
  readonly weight: number;
  readonly demands: readonly FlowDemand[];
}

interface Played {
  readonly endNs: number[];
  readonly usedBytes: number[];
  readonly busyNs: number[];
  readonly timeNs: number;
  readonly events: number;
}

/** Plays flows on the fabric, and checks capacities whenever a flow joined or ended and the rates have settled. */
const play = (flows: readonly TestFlow[], rates: readonly number[]): Played => {
  const simulator = createSimulator();
  const fabric = createFabric(
    simulator,
    rates.map((rateBytesPerNs, r) => ({ name: `r${r}`, rateBytesPerNs })),
  );
  const endNs = flows.map(() => Number.NaN);
  const done = simulator.addHandler('done', (flow, amount) => {
    expect(endNs[flow]).toBeNaN();
    expect(amount).toBe(flows[flow].amount);
    endNs[flow] = simulator.timeNs;
    simulator.schedule(simulator.timeNs, check);
  });
  const begin = simulator.addHandler('begin', (flow) => {
    fabric.startFlow(flows[flow], flows[flow].amount, flows[flow].latencyNs, done, flow);
    simulator.schedule(simulator.timeNs + flows[flow].latencyNs, check);
  });
  const check = simulator.addHandler(
    'check',
    () => {
      for (let r = 0; r < rates.length; r++) {
        expect(fabric.loadBytesPerNs(r)).toBeLessThanOrEqual(rates[r] * (1 + 1e-9));
      }
    },
    7,
  );
  for (const [flow, { startNs }] of flows.entries()) simulator.schedule(startNs, begin, flow);
  const events = simulator.run();
  expect(fabric.flows).toBe(0);
  const each = (of: (r: number) => number): number[] => rates.map((_, r) => of(r));
  return {
    endNs,
    usedBytes: each((r) => fabric.usedBytes(r)),
    busyNs: each((r) => fabric.busyNs(r)),
    timeNs: simulator.timeNs,
    events,
  };
};

/** Rates of single flows by raising all levels until something stops: no classes, no clocks, no heaps. */
const naiveRates = (flows: readonly TestFlow[], rates: readonly number[]): number[] => {
  const rate = flows.map(() => -1);
  const take = (flow: TestFlow, r: number): number =>
    flow.demands.reduce((sum, d) => sum + (d.resource === r ? d.bytesPerAmount : 0), 0);
  while (rate.includes(-1)) {
    const levelOf = (r: number): number => {
      let left = rates[r];
      let wish = 0;
      for (const [i, flow] of flows.entries()) {
        if (rate[i] >= 0) left -= rate[i] * take(flow, r);
        else wish += flow.weight * take(flow, r);
      }
      return wish > 0 ? Math.max(0, left) / wish : Infinity;
    };
    const levels = rates.map((_, r) => levelOf(r));
    const caps = flows.map((flow, i) => (rate[i] >= 0 ? Infinity : flow.capPerNs / flow.weight));
    const level = Math.min(...levels, ...caps);
    const full = levels.map((l) => l <= level * (1 + 1e-10));
    for (const [i, flow] of flows.entries()) {
      const stops = caps[i] <= level * (1 + 1e-10) || full.some((isFull, r) => isFull && take(flow, r) > 0);
      if (rate[i] < 0 && stops) rate[i] = Math.min(flow.capPerNs, level * flow.weight);
    }
  }
  return rate;
};

/** Completion times by stepping from change to change, O(n²). */
const naiveEnds = (flows: readonly TestFlow[], rates: readonly number[]): number[] => {
  const left = flows.map((flow) => flow.amount);
  const joinNs = flows.map((flow) => flow.startNs + flow.latencyNs);
  const endNs = flows.map((flow, i) => (flow.amount === 0 ? joinNs[i] : Number.NaN));
  let nowNs = 0;
  while (endNs.some(Number.isNaN)) {
    const active = flows.map((_, i) => i).filter((i) => Number.isNaN(endNs[i]) && joinNs[i] <= nowNs);
    const rate = naiveRates(
      active.map((i) => flows[i]),
      rates,
    );
    const joins = joinNs.filter((t) => t > nowNs);
    const step = Math.min(...joins.map((t) => t - nowNs), ...active.map((i, at) => left[i] / rate[at]));
    nowNs = step === Math.min(...joins) - nowNs ? Math.min(...joins) : nowNs + step;
    for (const [at, i] of active.entries()) {
      left[i] -= rate[at] * step;
      if (left[i] <= 1e-10 * flows[i].amount) endNs[i] = nowNs;
    }
  }
  return endNs;
};

const demandArbitrary = fc.record({
  resource: fc.integer({ min: 0, max: 2 }),
  bytesPerAmount: fc.constantFrom(0, 0.01, 0.5, 1, 1, 3),
});
const flowArbitrary: fc.Arbitrary<TestFlow> = fc.record({
  startNs: fc.nat(20).map((t) => t * 13),
  latencyNs: fc.constantFrom(0, 0, 5, 100),
  amount: fc.constantFrom(0, 1, 100, 1000, 1000, 12345.678),
  capPerNs: fc.constantFrom(1, 5, 20, 50, 1e6),
  weight: fc.constantFrom(0.5, 1, 1, 2),
  demands: fc.array(demandArbitrary, { maxLength: 3 }),
});
const flowsArbitrary = fc.array(flowArbitrary, { minLength: 1, maxLength: 25 });
const ratesArbitrary = fc.tuple(
  fc.constantFrom(1, 10, 64),
  fc.constantFrom(3, 10, 100),
  fc.constantFrom(7, 10, 3000),
);
const runs = { seed: 42, numRuns: 400 };

test('completion times agree with the naive solver; bytes are conserved; nothing ends early', () => {
  fc.assert(
    fc.property(flowsArbitrary, ratesArbitrary, (flows, rates) => {
      const played = play(flows, rates);
      const expected = naiveEnds(flows, rates);
      for (const [i, flow] of flows.entries()) {
        expect(Math.abs(played.endNs[i] - expected[i])).toBeLessThanOrEqual(1e-8 * expected[i]);
        const alone = naiveRates([flow], rates)[0];
        const soonest = flow.startNs + flow.latencyNs + flow.amount / alone;
        expect(played.endNs[i]).toBeGreaterThanOrEqual(soonest * (1 - 1e-9));
      }
      for (let r = 0; r < rates.length; r++) {
        let bytes = 0;
        for (const { amount, demands } of flows) {
          for (const d of demands) if (d.resource === r) bytes += amount * d.bytesPerAmount;
        }
        expect(Math.abs(played.usedBytes[r] - bytes)).toBeLessThanOrEqual(1e-8 * bytes);
        expect(played.busyNs[r]).toBeLessThanOrEqual(played.timeNs * (1 + 1e-12));
        expect(played.usedBytes[r]).toBeLessThanOrEqual(played.busyNs[r] * rates[r] * (1 + 1e-9));
      }
    }),
    runs,
  );
});

test('doubling all rates halves all times', () => {
  fc.assert(
    fc.property(flowsArbitrary, ratesArbitrary, (flows, rates) => {
      const slow = play(flows, rates);
      const fast = play(
        flows.map((flow) => ({
          ...flow,
          startNs: flow.startNs / 2,
          latencyNs: flow.latencyNs / 2,
          capPerNs: flow.capPerNs * 2,
        })),
        rates.map((rate) => rate * 2),
      );
      for (let i = 0; i < flows.length; i++) {
        expect(Math.abs(fast.endNs[i] * 2 - slow.endNs[i])).toBeLessThanOrEqual(1e-9 * slow.endNs[i]);
      }
    }),
    { ...runs, numRuns: 100 },
  );
});

test('work conservation: with uncapped flows a resource is busy until its bytes are through, at full rate', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(2000), fc.integer({ min: 1, max: 500 }))), (pairs) => {
      const flows = pairs.map(([startNs, amount], i) => ({
        startNs,
        latencyNs: 0,
        amount,
        capPerNs: Infinity,
        weight: 1 + (i % 3),
        demands: [{ resource: 0, bytesPerAmount: 1 }],
      }));
      const played = play(flows, [4]);
      expect(Math.abs(played.busyNs[0] * 4 - played.usedBytes[0])).toBeLessThan(1e-6);
      let freeNs = 0;
      for (const flow of flows.toSorted((a, b) => a.startNs - b.startNs)) {
        freeNs = Math.max(freeNs, flow.startNs) + flow.amount / 4;
      }
      expect(Math.abs(Math.max(0, ...played.endNs) - freeNs)).toBeLessThan(1e-6);
    }),
    runs,
  );
});

const flow = (amount: number, more: Partial<TestFlow> = {}): TestFlow => ({
  startNs: 0,
  latencyNs: 0,
  amount,
  capPerNs: Infinity,
  weight: 1,
  demands: [{ resource: 0, bytesPerAmount: 1 }],
  ...more,
});

test('a flow alone takes S / C after its latency', () => {
  expect(play([flow(3000, { latencyNs: 10 })], [60]).endNs).toEqual([60]);
  expect(play([flow(3000, { capPerNs: 30 })], [60]).endNs).toEqual([100]);
  expect(play([flow(0, { latencyNs: 10 })], [60]).endNs).toEqual([10]);
});

test('two equal flows take twice as long; weights divide; a capped flow leaves the rest to the others', () => {
  expect(play([flow(600), flow(600)], [60]).endNs).toEqual([20, 20]);
  expect(play([flow(600, { weight: 2 }), flow(300)], [60]).endNs).toEqual([15, 15]);
  expect(play([flow(100, { capPerNs: 10 }), flow(500)], [60]).endNs).toEqual([10, 10]);
});

test('a copy slows a kernel that reads HBM, and a pageable copy takes DRAM three times', () => {
  const kernel = flow(30000, { capPerNs: 3000, weight: 3000 });
  const copy = flow(500, {
    capPerNs: 50,
    weight: 50,
    demands: [
      { resource: 0, bytesPerAmount: 1 },
      { resource: 1, bytesPerAmount: 3 },
    ],
  });
  const played = play([kernel, copy], [3000, 300]);
  expect(played.endNs[0]).toBeCloseTo(10 * (3050 / 3000), 9);
  expect(played.endNs[1]).toBeCloseTo(10 * (3050 / 3000), 9);
  expect(played.usedBytes[1]).toBeCloseTo(1500, 6);
});

test('weights and units that differ by fifteen orders share without loss', () => {
  const heavy = flow(1e18, {
    weight: 1e15,
    demands: [{ resource: 1, bytesPerAmount: 1e-9 }],
    capPerNs: 1e12,
  });
  const both = [0, 1].map((resource) => ({ resource, bytesPerAmount: 1 }));
  const played = play([heavy, flow(3000, { weight: 1e-3, demands: both })], [30, 1030]);
  expect(played.endNs[0]).toBeCloseTo(1e6, 3);
  expect(played.endNs[1]).toBeCloseTo(100, 9);
});

test('capacity may change, stall and return', () => {
  const simulator = createSimulator();
  const fabric = createFabric(simulator, [{ name: 'link', rateBytesPerNs: 10 }]);
  let endNs = 0;
  const done = simulator.addHandler('done', () => {
    endNs = simulator.timeNs;
  });
  const change = simulator.addHandler('change', (rate) => fabric.setRate(0, rate));
  fabric.startFlow(
    { capPerNs: 100, weight: 1, demands: [{ resource: 0, bytesPerAmount: 1 }] },
    1000,
    0,
    done,
    0,
  );
  simulator.schedule(10, change, 0);
  simulator.schedule(50, change, 300);
  simulator.run();
  expect(endNs).toBe(59);
  expect([fabric.usedBytes(0), fabric.busyNs(0)]).toEqual([1000, 19]);
});

test('huge amounts, late clocks and classes that never empty lose nothing and do not spin', () => {
  const count = 2000;
  const startNs = 1e13;
  const flows = Array.from({ length: count }, (_, i) =>
    flow(i % 10 === 0 ? 1e12 : 64, { startNs: startNs + i * 1000 }),
  );
  const played = play(flows, [3000]);
  const bytes = flows.reduce((sum, f) => sum + f.amount, 0);
  expect(Math.max(...played.endNs)).toBeCloseTo(startNs + bytes / 3000, -3);
  expect(Math.abs(played.usedBytes[0] / bytes - 1)).toBeLessThan(1e-9);
});

test('a class that serves millions of flows without a pause keeps its precision', () => {
  const simulator = createSimulator();
  const fabric = createFabric(simulator, [{ name: 'link', rateBytesPerNs: 1 }]);
  const shared = fabric.holdClass({ capPerNs: 1, weight: 1, demands: [{ resource: 0, bytesPerAmount: 1 }] });
  // Enough for the class's virtual clock to start again once.
  const count = 2_500_000;
  let ended = 0;
  const done = simulator.addHandler('done', (i) => {
    ended++;
    if (i + 2 < count) fabric.start(shared, 2, 0, done, i + 2);
  });
  fabric.start(shared, 1, 0, done, 0);
  fabric.start(shared, 2, 0, done, 1);
  simulator.run();
  expect(ended).toBe(count);
  expect(Math.abs(simulator.timeNs / (2 * count - 1) - 1)).toBeLessThan(1e-9);
  expect(fabric.busyNs(0)).toBeCloseTo(simulator.timeNs, 3);
});

test.each([0.5, 0.8])(
  'processor sharing at rho %d: W = S / (1 - rho), whatever the sizes (M/G/1-PS)',
  (rho) => {
    for (const isConstant of [true, false]) {
      const simulator = createSimulator();
      const fabric = createFabric(simulator, [{ name: 'link', rateBytesPerNs: 10 }]);
      const shared = fabric.holdClass({
        capPerNs: 10,
        weight: 1,
        demands: [{ resource: 0, bytesPerAmount: 1 }],
      });
      const arrivals = createRandom(42, 'arrivals');
      const sizes = createRandom(42, 'sizes');
      const count = 100_000;
      const startNs = new Float64Array(count);
      const sojournNs = new Float64Array(count);
      const done = simulator.addHandler('done', (i) => {
        sojournNs[i] = simulator.timeNs - startNs[i];
      });
      const arrive = simulator.addHandler('arrive', (i) => {
        startNs[i] = simulator.timeNs;
        fabric.start(shared, isConstant ? 10 : sizes.exponential(10), 0, done, i);
        if (i + 1 < count)
          simulator.schedule(simulator.timeNs + arrivals.exponential(1 / rho), arrive, i + 1);
      });
      simulator.schedule(0, arrive, 0);
      simulator.run();
      const interval = batchMeans(sojournNs.subarray(count / 10), 32, 0.99);
      expect(Math.abs(interval.mean - 1 / (1 - rho))).toBeLessThan(interval.halfWidth);
      expect(interval.halfWidth / interval.mean).toBeLessThan(0.15);
      expect(Math.abs(fabric.busyNs(0) / simulator.timeNs - rho)).toBeLessThan(0.02);
    }
  },
);

test('bad input is refused with the field', () => {
  const simulator = createSimulator();
  expect(() => createFabric(simulator, [{ name: 'hbm', rateBytesPerNs: -3 }])).toThrow(
    'resource hbm: expected a finite rateBytesPerNs >= 0, got -3',
  );
  expect(() =>
    createFabric(simulator, [
      { name: 'a', rateBytesPerNs: 1 },
      { name: 'a', rateBytesPerNs: 1 },
    ]),
  ).toThrow('named twice');
  const fabric = createFabric(simulator, [{ name: 'hbm', rateBytesPerNs: 3 }]);
  expect(fabric.resourceIndex('hbm')).toBe(0);
  expect(() => fabric.resourceIndex('dram')).toThrow('resource dram: expected one of hbm');
  const spec = { capPerNs: 1, weight: 1, demands: [] };
  expect(() => fabric.holdClass({ ...spec, capPerNs: Infinity })).toThrow('finite without demands');
  expect(() => fabric.holdClass({ ...spec, weight: 0 })).toThrow('weight > 0');
  expect(() => fabric.holdClass({ ...spec, demands: [{ resource: 1, bytesPerAmount: 1 }] })).toThrow('got 1');
  expect(() => fabric.startFlow(spec, Number.NaN, 0, 0, 0)).toThrow('expected amount >= 0');
  const held = fabric.holdClass(spec);
  fabric.releaseClass(held);
  expect(() => fabric.releaseClass(held)).toThrow('released while not held');
});
