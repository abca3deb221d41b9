/** The Chrome trace against the documented format: required fields, time order, no overlap on an in-order stream. */
import { describe, expect, it } from 'vitest';
import { fixtureComparison, fixtureTimeline } from '../test/comparison.ts';
import { chromeTrace } from './perfetto.ts';

interface TraceEvent {
  readonly name: string;
  readonly ph: 'X' | 'M' | 'C';
  readonly pid: number;
  readonly tid: number;
  readonly ts: number;
  readonly dur?: number;
  readonly args: Readonly<Record<string, unknown>>;
}

const parse = (pieces: Iterable<string>): { traceEvents: TraceEvent[]; otherData: unknown } =>
  JSON.parse([...pieces].join(''));

const { timelines } = fixtureComparison(4, 3);
const document = parse(chromeTrace(timelines, { digest: 'abc', note: '"quoted"\n' }));
const events = document.traceEvents;
const wholeNs = (micros: number): number => Math.round(micros * 1000);

const byThread = (list: readonly TraceEvent[]): ReadonlyMap<string, readonly TraceEvent[]> => {
  const threads = new Map<string, TraceEvent[]>();
  for (const event of list) {
    const key = `${event.pid}/${event.tid}`;
    threads.set(key, [...(threads.get(key) ?? []), event]);
  }
  return threads;
};

describe('chromeTrace', () => {
  it('is one JSON document that carries its metadata', () => {
    expect(document.otherData).toEqual({ digest: 'abc', note: '"quoted"\n' });
  });

  it('gives every event the fields of its phase', () => {
    for (const event of events) {
      expect(event.name).toEqual(expect.any(String));
      expect(Number.isInteger(event.pid) && Number.isInteger(event.tid)).toBe(true);
      expect(event.ts).toBeGreaterThanOrEqual(0);
      if (event.ph === 'X') expect(event.dur).toBeGreaterThanOrEqual(0);
      else expect(['M', 'C']).toContain(event.ph);
      if (event.ph === 'C') expect(event.args['GB/s']).toEqual(expect.any(Number));
    }
  });

  it('names a process a policy and a thread a stream', () => {
    const names = events.filter(({ name }) => name === 'process_name').map(({ args }) => args.name);
    expect(names).toEqual(timelines.map(({ policy }) => policy));
    const threads = new Set(
      events.filter(({ name }) => name === 'thread_name').map(({ pid, tid }) => `${pid}/${tid}`),
    );
    for (const { ph, pid, tid } of events) if (ph === 'X') expect(threads).toContain(`${pid}/${tid}`);
  });

  it('writes every operation once, with its layer, step and bytes', () => {
    for (const [index, { timeline }] of timelines.entries()) {
      const slices = events.filter(({ ph, pid, tid }) => ph === 'X' && pid === index + 1 && tid > 0);
      expect(slices.length).toBe(timeline.startNs.length);
      const bytes = slices.reduce((sum, { args }) => sum + Number(args.bytes), 0);
      expect(bytes).toBe(timeline.bytes.reduce((sum, sizeBytes) => sum + sizeBytes, 0));
      expect(new Set(slices.map(({ args }) => args.step))).toEqual(new Set([0, 1, 2]));
      expect(slices.every(({ args }) => Number.isInteger(args.layer))).toBe(true);
    }
  });

  it('keeps time order and no overlap on each stream, to the nanosecond', () => {
    const slices = byThread(events.filter(({ ph }) => ph === 'X'));
    expect(slices.size).toBeGreaterThan(10);
    for (const list of slices.values()) {
      let endNs = 0;
      for (const { ts, dur } of list) {
        expect(wholeNs(ts)).toBeGreaterThanOrEqual(endNs);
        endNs = wholeNs(ts) + wholeNs(dur ?? 0);
      }
    }
  });

  it('times operations exactly as the timeline does, rounded to ns', () => {
    const { timeline } = timelines[0];
    const slices = events.filter(({ ph, pid, tid }) => ph === 'X' && pid === 1 && tid > 0);
    const expected = [...timeline.startNs].map(Math.round).sort((a, b) => a - b);
    expect(slices.map(({ ts }) => wholeNs(ts)).sort((a, b) => a - b)).toEqual(expected);
  });

  it('counts the bytes of a link in its rate', () => {
    const pid = timelines.findIndex(({ policy }) => policy === 'full-offload') + 1;
    const counters = events.filter(
      (event) => event.pid === pid && event.ph === 'C' && event.name === 'h2d rate',
    );
    let movedBytes = 0;
    for (let i = 0; i + 1 < counters.length; i++) {
      const lengthNs = wholeNs(counters[i + 1].ts) - wholeNs(counters[i].ts);
      expect(lengthNs).toBeGreaterThan(0);
      movedBytes += Number(counters[i].args['GB/s']) * lengthNs;
    }
    const { timeline } = timelines[pid - 1];
    const copied = timeline.bytes.filter((_, at) => timeline.stream[at] === 1).reduce((a, b) => a + b, 0);
    expect(movedBytes / copied).toBeCloseTo(1, 4);
    expect(counters[counters.length - 1].args['GB/s']).toBe(0);
  });

  it('comes in pieces, so that a large timeline needs no large string', () => {
    const large = [{ policy: 'ttkv', timeline: fixtureTimeline({ attendNs: 9e3, fetchBytes: 1e6 }, 32, 40) }];
    const lengths = [...chromeTrace(large, {})].map((piece) => piece.length);
    expect(lengths.length).toBeGreaterThan(5);
    expect(Math.max(...lengths)).toBeLessThan(70_000);
  });
});
