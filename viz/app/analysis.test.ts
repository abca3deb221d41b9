/** What the pictures claim about steps, lanes, flows and the frontier, checked against small cases and by property. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Timeline } from '../../sim/timing/timeline.ts';
import { fixtureComparison } from '../../test/comparison.ts';
import { boundaryKeys, flowsOf, frontier, laneTimes, massRecall, splitSteps } from './analysis.ts';
import { kindTimes, laneMarks } from './lanes.ts';
import { layoutSankey, sankeyScale } from './sankey-layout.ts';
import { createStore, type State } from './store.ts';
import { fitTo, panBy, reveal, tickLabel, zoomAt } from './viewport.ts';

type Row = readonly [stream: number, kind: string, startNs: number, endNs: number, step?: number];

const kinds = ['attend', 'fetch', 'wait'];

const timelineOf = (rows: readonly Row[]): Timeline => ({
  kinds,
  streams: ['compute', 'h2d'],
  stream: Uint8Array.from(rows, (row) => row[0]),
  kind: Uint8Array.from(rows, (row) => kinds.indexOf(row[1])),
  startNs: Float64Array.from(rows, (row) => row[2]),
  endNs: Float64Array.from(rows, (row) => row[3]),
  step: Int32Array.from(rows, (row) => row[4] ?? 0),
  layer: new Int16Array(rows.length),
  bytes: new Float64Array(rows.length),
});

describe('steps and lanes', () => {
  it('splits a timeline into steps in order, prefill first', () => {
    const steps = splitSteps(
      timelineOf([
        [0, 'attend', 30, 40, 1],
        [0, 'attend', 0, 10, -1],
        [1, 'fetch', 12, 25, 0],
        [0, 'attend', 10, 20, 0],
      ]),
    );
    expect(steps).toEqual([
      { step: -1, rows: [1], fromNs: 0, toNs: 10 },
      { step: 0, rows: [3, 2], fromNs: 10, toNs: 25 },
      { step: 1, rows: [0], fromNs: 30, toNs: 40 },
    ]);
  });

  it('counts a wait as idle, and as exposed what no other stream covers', () => {
    const timeline = timelineOf([
      [0, 'attend', 0, 10],
      [1, 'fetch', 5, 30],
      [0, 'wait', 10, 30],
      [0, 'attend', 30, 40],
    ]);
    expect(laneTimes(timeline, splitSteps(timeline)[0])).toEqual([
      { stream: 'compute', busyNs: 20, exposedNs: 15 },
      { stream: 'h2d', busyNs: 25, exposedNs: 20 },
    ]);
  });

  it('never calls a lane busier than the step is long, nor more exposed than busy', () => {
    const row = fc.tuple(
      fc.integer({ min: 0, max: 1 }),
      fc.constantFrom(...kinds),
      fc.nat(1000),
      fc.nat(1000),
    );
    fc.assert(
      fc.property(fc.array(row, { minLength: 1 }), (raw) => {
        const timeline = timelineOf(raw.map(([s, k, a, b]): Row => [s, k, Math.min(a, b), Math.max(a, b)]));
        const [step] = splitSteps(timeline);
        for (const { busyNs, exposedNs } of laneTimes(timeline, step)) {
          expect(busyNs).toBeLessThanOrEqual(step.toNs - step.fromNs);
          expect(exposedNs).toBeLessThanOrEqual(busyNs);
        }
      }),
      { seed: 42 },
    );
  });

  it('draws every operation in sight once, merging only those too narrow to see', () => {
    const { timelines } = fixtureComparison(32, 1);
    const [step] = splitSteps(timelines[0].timeline);
    const marksAt = (scale: number) =>
      laneMarks(timelines[0].timeline, step, (ns) => (ns - step.fromNs) * scale, Number.POSITIVE_INFINITY);
    const rowsOf = (marks: ReturnType<typeof marksAt>): number[] =>
      marks.flatMap(({ rows }) => rows).sort((a, b) => a - b);
    const all = step.rows.toSorted((a, b) => a - b);
    expect(rowsOf(marksAt(1e-6))).toEqual(all);
    expect(rowsOf(marksAt(1))).toEqual(all);
    expect(marksAt(1).length).toBe(step.rows.length);
    expect(marksAt(1e-6).length).toBeLessThan(step.rows.length);
  });

  it('adds up time by kind', () => {
    const timeline = timelineOf([
      [0, 'attend', 0, 10],
      [0, 'attend', 10, 15],
      [1, 'fetch', 0, 30],
    ]);
    expect(kindTimes(timeline, splitSteps(timeline)[0])).toEqual([
      { kind: 'fetch', timeNs: 30 },
      { kind: 'attend', timeNs: 15 },
    ]);
  });
});

describe('flows', () => {
  const { result } = fixtureComparison(2, 1);
  const box = { width: 600, height: 340, margin: { top: 30, bottom: 50, left: 30, right: 30 } };
  const pictures = result.policies.map(flowsOf);

  it('draws every width in proportion to its bytes, and nothing outside the box', () => {
    const scale = sankeyScale(pictures, box);
    for (const flows of pictures) {
      const { nodes, ribbons } = layoutSankey(flows, ['dram', 'hbm', 'compute'], scale, box);
      for (const ribbon of ribbons) expect(ribbon.widthPx).toBeCloseTo(ribbon.bytes * scale, 9);
      for (const node of nodes) {
        expect(node.y).toBeGreaterThanOrEqual(box.margin.top - 1e-6);
        expect(node.y + node.height).toBeLessThanOrEqual(box.height - box.margin.bottom + 1e-6);
      }
      expect(nodes.map(({ name }) => name)).toEqual(['dram', 'hbm', 'compute']);
    }
  });

  it('keeps the bytes of the result', () => {
    const [policy] = result.policies;
    const { hbm } = policy.traffic;
    const total = flowsOf(policy).reduce((sum, { bytes }) => sum + bytes, 0);
    const expected =
      'readBytesPerStep' in hbm
        ? hbm.readBytesPerStep + hbm.writeBytesPerStep + hbm.weightReadBytesPerStep
        : 0;
    expect(total).toBe(expected);
  });

  it('has a scale of zero when nothing flows', () => {
    expect(sankeyScale([[]], box)).toBe(0);
    expect(layoutSankey([], ['dram', 'hbm'], 0, box).ribbons).toEqual([]);
  });

  it('lists the host link first, other boundaries only where bytes cross', () => {
    const [first, ...rest] = result.policies;
    const boundary = { bytes: 1, bytesPerStep: 1, busyRatio: 0, prefillBytes: 0 };
    const idle = { ...boundary, bytesPerStep: 0 };
    const extended = { ...first, traffic: { ...first.traffic, 'nvme->dram': boundary, 'dram->nvme': idle } };
    expect(boundaryKeys([extended, ...rest])).toEqual(['dram->hbm', 'hbm->dram', 'nvme->dram']);
  });
});

describe('frontier', () => {
  it('rises in time and in recall, and leaves out what does not fit or was not measured', () => {
    const { policies } = fixtureComparison(2, 1).result;
    const chosen = frontier(policies);
    for (let i = 1; i < chosen.length; i++) {
      expect(chosen[i].stepNs.mean).toBeGreaterThan(chosen[i - 1].stepNs.mean);
      expect(massRecall(chosen[i])).toBeGreaterThan(massRecall(chosen[i - 1]));
    }
    const names = chosen.map(({ policy }) => policy);
    expect(names).toContain('full');
    for (const name of ['h2o', 'wg-kv', 'full-offload']) expect(names).not.toContain(name);
  });
});

describe('viewport', () => {
  const whole = { fromNs: 1000, toNs: 9000 };
  const span = fc
    .tuple(fc.integer({ min: 1000, max: 8900 }), fc.integer({ min: 100, max: 8000 }))
    .map(([fromNs, length]) => ({ fromNs, toNs: Math.min(9000, fromNs + length) }));

  it('stays inside the step whatever is done to it', () => {
    const move = fc.double({ min: -1e5, max: 1e5, noNaN: true });
    const factor = fc.double({ min: 1e-3, max: 1e3, noNaN: true });
    fc.assert(
      fc.property(span, move, factor, fc.integer({ min: 1000, max: 9000 }), (from, deltaNs, by, atNs) => {
        for (const next of [panBy(from, deltaNs, whole), zoomAt(from, atNs, by, whole), fitTo(from, whole)]) {
          expect(next.fromNs).toBeGreaterThanOrEqual(whole.fromNs - 1e-6);
          expect(next.toNs).toBeLessThanOrEqual(whole.toNs + 1e-6);
          expect(next.toNs).toBeGreaterThan(next.fromNs);
        }
      }),
      { seed: 42 },
    );
  });

  it('zooms about the point and reveals with the least movement', () => {
    expect(zoomAt({ fromNs: 2000, toNs: 4000 }, 2500, 0.5, whole)).toEqual({ fromNs: 2250, toNs: 3250 });
    expect(reveal({ fromNs: 2000, toNs: 4000 }, { fromNs: 2500, toNs: 2600 }, whole).fromNs).toBe(2000);
    expect(reveal({ fromNs: 2000, toNs: 4000 }, { fromNs: 6000, toNs: 6200 }, whole)).toEqual({
      fromNs: 5100,
      toNs: 7100,
    });
  });

  it('labels close ticks apart', () => {
    const ticks = [3_141_000, 3_141_500, 3_142_000];
    const labels = ticks.map(tickLabel(ticks));
    expect(labels).toEqual(['3.1410 ms', '3.1415 ms', '3.1420 ms']);
  });
});

describe('store', () => {
  it('tells listeners once a frame, with the state before', () => {
    const frames: (() => void)[] = [];
    const store = createStore({ policy: 'a', hovered: null, step: 0 }, (flush) => frames.push(flush));
    const heard: [State, State][] = [];
    store.subscribe((state, before) => heard.push([state, before]));
    store.set({ policy: 'b' });
    store.set({ step: 3 });
    expect(store.get()).toEqual({ policy: 'b', hovered: null, step: 3 });
    expect([frames.length, heard.length]).toEqual([1, 0]);
    frames[0]();
    expect(heard).toEqual([
      [
        { policy: 'b', hovered: null, step: 3 },
        { policy: 'a', hovered: null, step: 0 },
      ],
    ]);
  });
});
