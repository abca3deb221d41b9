/**
 * The shipped Mooncake trace: facts of the file, and hit ratios of single-tier prefix caches on it. The six LRU and
 * S3-FIFO ratios and the infinite one are the golden values of the project's reference; the others are our own counts.
 */
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadEviction } from '../../sim/policy/eviction/evictions.ts';
import { type HitCounting, infiniteHits, replay } from '../../sim/policy/eviction/replay.ts';
import { readRequestFile } from './node-file.ts';
import type { RequestTrace } from './request-trace.ts';

const sample = (name: string): Promise<RequestTrace> =>
  readRequestFile(fileURLToPath(new URL(`../samples/requests/${name}`, import.meta.url)));

const hits = (
  requests: RequestTrace,
  name: string,
  capacityBlocks: number,
  counting: HitCounting = 'prefix',
) => replay({ eviction: loadEviction(name), capacityBlocks, requests, counting }).hits;

describe('the whole conversation trace', () => {
  let trace: RequestTrace;
  beforeAll(async () => {
    trace = await sample('mooncake-conversation.jsonl.gz');
  });

  it('has the facts of the original', () => {
    const mean = (column: Int32Array) => column.reduce((sum, value) => sum + value, 0) / column.length;
    expect(trace.arrivalNs).toHaveLength(12_031);
    expect(trace.blockIds).toHaveLength(288_500);
    expect(trace.uniqueBlocks).toBe(182_790);
    expect(trace.blockTokens).toBe(512);
    expect(Math.round(mean(trace.inputTokens))).toBe(12_035);
    expect(Math.round(mean(trace.outputTokens))).toBe(343);
    expect(Math.max(...trace.inputTokens)).toBe(126_195);
    expect(Math.round((trace.arrivalNs.at(-1) ?? 0) / 1e9)).toBe(3537);
    expect(trace.notes).toEqual([]);
  });

  it('hits 36.64 % without limit, however hits are counted', () => {
    for (const counting of ['prefix', 'block'] as const) {
      expect((100 * infiniteHits(trace, counting)) / 288_500).toBeCloseTo(36.64, 2);
    }
  });

  it.each([
    ['lru', 1000, 4.45],
    ['lru', 10_000, 21.16],
    ['lru', 50_000, 35.46],
    ['s3fifo', 1000, 5.55],
    ['s3fifo', 10_000, 19.45],
    ['s3fifo', 50_000, 34.9],
  ])('%s at %i blocks hits %f %%', (name, capacityBlocks, percent) => {
    expect((100 * hits(trace, name, capacityBlocks)) / 288_500).toBeCloseTo(percent, 2);
  });

  it.each([
    ['fifo', 52_299],
    ['clock', 61_590],
    ['sieve', 37_931],
    ['arc', 64_238],
    ['belady', 105_710],
  ])('%s at 10,000 blocks hits %i blocks', (name, expected) => {
    expect(hits(trace, name, 10_000)).toBe(expected);
  });

  it('bounds every rule by Belady in block hits', () => {
    const bound = hits(trace, 'belady', 1000, 'block');
    expect(bound).toBe(54_994);
    for (const name of ['lru', 'fifo', 'clock', 'sieve', 's3fifo', 'slru', 'lfu', 'arc']) {
      expect(hits(trace, name, 1000, 'block')).toBeLessThan(bound);
    }
  });
});

describe('the first 600 requests', () => {
  let trace: RequestTrace;
  beforeAll(async () => {
    trace = await sample('mooncake-conversation-head.jsonl.gz');
  });

  it('are the same rows in the original format', async () => {
    const whole = await sample('mooncake-conversation.jsonl.gz');
    expect(trace.format).toBe('mooncake');
    expect(trace.arrivalNs).toEqual(whole.arrivalNs.slice(0, 600));
    expect(trace.inputTokens).toEqual(whole.inputTokens.slice(0, 600));
    expect(trace.outputTokens).toEqual(whole.outputTokens.slice(0, 600));
    expect(trace.offsets).toEqual(whole.offsets.slice(0, 601));
    expect(trace.blockIds).toEqual(whole.blockIds.slice(0, 16_495));
    expect(trace.uniqueBlocks).toBe(13_712);
  });

  it.each([
    ['lru', [599, 638, 1028, 2731]],
    ['s3fifo', [599, 712, 926, 2724]],
    ['sieve', [599, 638, 1042, 2731]],
    ['belady', [1588, 2302, 2783, 2783]],
  ])('%s hits %j blocks at 500, 1000, 3000 and 10,000', (name, expected) => {
    expect([500, 1000, 3000, 10_000].map((capacity) => hits(trace, name, capacity))).toEqual(expected);
  });
});
