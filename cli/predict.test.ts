/** `kvtier predict`: what it prints for each operation, and what it refuses. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadProfile } from '../sim/hardware/load.ts';
import { recordedContext } from '../test/recorded-context.ts';
import { verb } from './predict.ts';

type Document = {
  readonly format: string;
  readonly experiment: Readonly<Record<string, unknown>>;
  readonly timeNs: number;
  readonly intervalNs: readonly [number, number];
  readonly domain: string;
  readonly boundBy: string;
  readonly bytes: number | null;
};

const run = async (
  given: Readonly<Record<string, unknown>>,
): Promise<{ document: Document; text: string }> => {
  const { context, documents, lines } = recordedContext();
  await verb.run(verb.flags.parse(given), context);
  expect(documents).toHaveLength(1);
  return { document: documents[0] as Document, text: lines.join('\n') };
};
const timeNs = async (given: Readonly<Record<string, unknown>>): Promise<number> =>
  (await run(given)).document.timeNs;

const attend = { op: 'attend', context: 131_072, heads: 32, kvHeads: 8, headDim: 128 };

/** A copy of the H100 profile with one number replaced, as a file. */
const profileFile = (edit: (profile: ReturnType<typeof loadProfile>) => void): string => {
  const profile = structuredClone(loadProfile('h100-sxm'));
  edit(profile);
  const path = join(mkdtempSync(join(tmpdir(), 'kvtier-')), 'mine.json');
  writeFileSync(path, JSON.stringify(profile));
  return path;
};

describe('predict', () => {
  it.each([
    [{ op: 'copy', direction: 'h2d', bytes: 1 << 26 }],
    [{ op: 'copy', direction: 'd2h', bytes: 4096, count: 100, mode: 'dma-batch' }],
    [{ op: 'copy', direction: 'both', bytes: 1 << 29 }],
    [{ op: 'gather', tier: 'dram', mode: 'uva', rowBytes: 256, rows: 16_384 }],
    [{ op: 'gather', tier: 'dram', mode: 'staged', rowBytes: 4096, rows: 16_384 }],
    [{ op: 'gather', tier: 'hbm', rowBytes: 256, rows: 16_384 }],
    [attend],
    [{ ...attend, op: 'prefill-attention', context: 8192 }],
    [{ op: 'gemm', m: 1, n: 4096, k: 4096, dtype: 'int8' }],
    [{ op: 'select', rows: 8, of: 131_072, k: 2048 }],
  ])('%j gives a time within its interval', async (given) => {
    const { document, text } = await run(given);
    expect(document.format).toBe('kvtier.result/1');
    expect(document.experiment).toMatchObject({
      op: given.op,
      hardware: 'h100-sxm',
      stack: 'flashinfer-graphs',
    });
    expect(document.timeNs).toBeGreaterThan(0);
    expect(document.intervalNs[0]).toBeLessThanOrEqual(document.timeNs);
    expect(document.intervalNs[1]).toBeGreaterThanOrEqual(document.timeNs);
    expect(['calibrated', 'extrapolated']).toContain(document.domain);
    expect(text).toContain(`${given.op} on h100-sxm`);
  });

  it('moves a gigabyte each way through the measured host complex', async () => {
    const { document } = await run({ op: 'copy', direction: 'both', bytes: 2 ** 30 });
    expect((2 * 2 ** 30) / document.timeNs).toBeCloseTo(87.4, 0);
    expect(document.boundBy).toBe('host');
    // Both at once: slower than one way, faster than one after the other.
    const one = await timeNs({ op: 'copy', direction: 'h2d', bytes: 2 ** 30 });
    expect(document.timeNs).toBeGreaterThan(one);
    expect(document.timeNs).toBeLessThan(2 * one);
  });

  it('reads half the bytes in fp8, and takes longer on a slower machine', async () => {
    const [bf16, fp8] = await Promise.all([
      run({ ...attend, dtype: 'bf16' }),
      run({ ...attend, dtype: 'fp8' }),
    ]);
    expect(fp8.document.bytes).toBe((bf16.document.bytes ?? 0) / 2);
    expect(await timeNs({ ...attend, hardware: 'l40s' })).toBeGreaterThan(bf16.document.timeNs * 3);
  });

  it('takes a profile file: twice the link, half the time', async () => {
    const path = profileFile(({ link }) => {
      for (const rate of [
        link.peakBytesPerNs,
        link.h2dBytesPerNs,
        link.d2hBytesPerNs,
        link.hostSumBytesPerNs,
      ]) {
        rate.value *= 2;
      }
    });
    const copy = { op: 'copy', direction: 'h2d', bytes: 2 ** 30 };
    expect((await timeNs(copy)) / (await timeNs({ ...copy, hardware: path }))).toBeCloseTo(2, 2);
  });
});

describe('predict refuses', () => {
  it.each([
    [{ op: 'copy' }, /^--bytes: is required with --op copy$/],
    [
      { op: 'copy', bytes: 1, rows: 2 },
      /^--rows: has no meaning with --op copy, which takes --bytes, --direction/,
    ],
    [{ op: 'copy', bytes: 1, mode: 'uva' }, /^--mode uva: expected dma, dma-batch, pageable/],
    [{ op: 'gather', tier: 'dram', rows: 4 }, /^--row-bytes: is required/],
    [{ op: 'gather', tier: 'dram', rows: 4, rowBytes: 4, mode: 'dma' }, /^--mode dma: expected uva, staged/],
    [{ ...attend, kvHeads: 7 }, /^--kv-heads 7: expected a divisor of --heads 32/],
    [{ ...attend, headDim: undefined }, /^--head-dim: is required/],
    [{ op: 'select', rows: 1, of: 10, k: 11 }, /^--k 11: expected at most --of 10/],
    [
      { op: 'gemm', m: 1, n: 1, k: 1, hardware: 'h200-sxn' },
      /unknown hardware 'h200-sxn': did you mean h200-sxm/,
    ],
    [{ op: 'gemm', m: 1, n: 1, k: 1, hardware: './none.json' }, /^--hardware \.\/none\.json: /],
  ])('%j', async (given, message) => {
    await expect(run(given)).rejects.toThrow(message);
  });

  it('a profile with a negative bandwidth, by file and field', async () => {
    const path = profileFile(({ accelerator }) => {
      accelerator.hbm.peakBytesPerNs.value = -3350;
    });
    await expect(run({ ...attend, hardware: path })).rejects.toThrow(
      /mine\.json: field accelerator\.hbm\.peakBytesPerNs/,
    );
  });

  it('sizes that are no positive whole numbers', () => {
    expect(verb.flags.safeParse({ op: 'copy', bytes: 0 }).success).toBe(false);
    expect(verb.flags.safeParse({ op: 'copy', bytes: -1 }).success).toBe(false);
    expect(verb.flags.safeParse({ op: 'copy', bytes: 1.5 }).success).toBe(false);
    expect(verb.flags.safeParse({ op: 'melt' }).success).toBe(false);
  });
});
