/** `kvtier mrc`: the document, the table, the curves, and what it refuses. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { recordedContext } from '../test/recorded-context.ts';
import { failureOf } from './failure.ts';
import { defaultCapacities, verb } from './mrc.ts';
import { marksOf } from './mrc-chart.ts';

type Document = {
  readonly format: string;
  readonly kind: string;
  readonly seed: number;
  readonly experiment: Readonly<Record<string, unknown>>;
  readonly trace: Readonly<Record<string, unknown>>;
  readonly curves: readonly {
    readonly eviction: string;
    readonly config: unknown;
    readonly points: readonly { capacityBlocks: number; hits: number; accesses: number; hitRatio: number }[];
  }[];
  readonly digest: string;
  readonly notes: readonly string[];
};

const HEAD = fileURLToPath(
  new URL('../traces/samples/requests/mooncake-conversation-head.jsonl.gz', import.meta.url),
);
let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'kvtier-mrc-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const run = async (given: Readonly<Record<string, unknown>>) => {
  const { context, documents, lines, notes } = recordedContext({ json: false });
  await verb.run(verb.flags.parse({ trace: HEAD, ...given }), context);
  expect(documents).toHaveLength(1);
  return { document: documents[0] as Document, text: lines.join('\n'), notes };
};

const hitsOf = (document: Document) => document.curves.map(({ points }) => points.map((point) => point.hits));

describe('kvtier mrc', () => {
  it('prints curves by rule and rising capacity, and what they were counted on', async () => {
    const { document } = await run({ eviction: ['lru', 's3fifo'], capacities: ['3000', '500', '1000'] });
    expect(document).toMatchObject({
      format: 'kvtier.result/1',
      kind: 'mrc',
      seed: 1,
      experiment: {
        hits: 'prefix',
        capacities: [500, 1000, 3000],
        trace: 'mooncake-conversation-head.jsonl.gz',
      },
      trace: { format: 'mooncake', requests: 600, accesses: 16_495, uniqueBlocks: 13_712, blockTokens: 512 },
    });
    expect(document.trace.infiniteHitRatio).toBeCloseTo(2783 / 16_495, 12);
    expect(document.curves.map((curve) => curve.eviction)).toEqual(['lru', 's3fifo']);
    expect(hitsOf(document)).toEqual([
      [599, 638, 1028],
      [599, 712, 926],
    ]);
    const point = document.curves[0].points[2];
    expect(point).toEqual({ capacityBlocks: 3000, hits: 1028, accesses: 16_495, hitRatio: 1028 / 16_495 });
    expect(document.notes[0]).toMatch(/leading blocks/);
  });

  it('runs without arguments on the whole shipped trace, with a table and a chart', async () => {
    const { document, text } = await run({ trace: undefined });
    expect(document.trace.requests).toBe(12_031);
    const lru = document.curves.find((curve) => curve.eviction === 'lru');
    const percent = lru?.points.find((point) => point.capacityBlocks === 10_000)?.hitRatio ?? 0;
    expect(100 * percent).toBeCloseTo(21.16, 2);
    expect(text).toMatch(/^blocks +lru +fifo/m);
    expect(text).toMatch(/36\.6 % ┤.*L/);
    for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
  });

  it('counts block by block when asked, which is said and changes the digest', async () => {
    const prefix = await run({ eviction: ['s3fifo'], capacities: ['3000'] });
    const block = await run({ eviction: ['s3fifo'], capacities: ['3000'], hits: 'block' });
    expect(block.document.experiment.hits).toBe('block');
    expect(block.document.digest).not.toBe(prefix.document.digest);
    const again = await run({ eviction: ['S3-FIFO'], capacities: ['3000'] });
    expect(again.document).toEqual(prefix.document);
  });

  it('takes capacities in bytes of a model, and shows them', async () => {
    // Llama-3.1-8B keeps 131,072 bytes a token: 64 MiB a block of 512 tokens.
    const { document, text } = await run({
      eviction: ['lru'],
      capacities: ['64GiB', '1000'],
      model: 'llama-3.1-8b',
    });
    expect(document.trace.blockBytes).toBe(2 ** 26);
    expect(document.experiment.capacities).toEqual([1000, 1024]);
    expect(text).toMatch(/1024 +68\.7 GB/);
  });

  it('takes the model from a config.json', async () => {
    const model = fileURLToPath(new URL('../sim/model/configs/llama-3.1-8b.json', import.meta.url));
    const { document } = await run({ eviction: ['lru'], capacities: ['64GiB'], model });
    expect(document.trace.blockBytes).toBe(2 ** 26);
    expect(document.experiment.model).toMatchObject({ num_hidden_layers: 32 });
  });

  it('passes parameters to rules', async () => {
    const { document } = await run({
      eviction: ['s3fifo'],
      capacities: ['1000'],
      set: ['s3fifo.smallRatio=0.5'],
    });
    expect(document.curves[0].config).toMatchObject({ smallRatio: 0.5, promoteHits: 2 });
  });

  it('writes the same document to a folder, whole', async () => {
    const out = join(folder, 'out');
    const { document, notes } = await run({ eviction: ['lru'], capacities: ['10'], out });
    expect(JSON.parse(readFileSync(join(out, 'result.json'), 'utf8'))).toEqual(document);
    expect(notes.join()).toContain('result.json');
  });

  it.each([
    [{ trace: '/none.jsonl' }, /\/none\.jsonl: no such file/],
    [{ eviction: ['lruu'] }, /unknown eviction 'lruu': did you mean lru/],
    [{ capacities: ['-5'] }, /--capacities: expected blocks >= 0, got '-5'/],
    [{ capacities: ['1.5'] }, /--capacities: expected whole blocks/],
    [{ capacities: ['many'] }, /--capacities: expected a number/],
    [{ capacities: ['10GB'] }, /--capacities 10GB: bytes need --model/],
    [{ model: 'lama' }, /unknown model 'lama'/],
    [{ set: ['lru.x=1'] }, /lru.*x/],
    [{ set: ['smallRatio=1'] }, /--set: expected rule\.param=value/],
    [{ set: ['slru.protectedRatio=1'] }, /slru is not among --eviction/],
    [{ set: ['s3fifo.smallRatio=2'], eviction: ['s3fifo'] }, /s3fifo\.smallRatio/],
  ])('refuses %j with one line and exit code 2', async (given, message) => {
    const out = join(folder, 'refused');
    const failure = failureOf(await run({ ...given, out }).catch((error: unknown) => error));
    expect(failure.message).toMatch(message);
    expect(failure.message).not.toContain('\n');
    expect(failure.exitCode).toBe(2);
    expect(existsSync(out)).toBe(false);
  });

  it('refuses a trace without prefix blocks', async () => {
    const path = join(folder, 'plain.jsonl');
    writeFileSync(path, '{"timestamp":0,"input_length":5,"output_length":1,"hash_ids":[]}\n');
    await expect(run({ trace: path })).rejects.toThrow(/expected prefix blocks/);
  });
});

describe('defaults', () => {
  it.each([
    [1, [1]],
    [5, [1, 2, 5]],
    [300, [1, 2, 5, 10, 20, 50, 100, 200, 300]],
    [182_790, [500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 182_790]],
  ])('of capacities for %i blocks', (blocks, expected) => {
    expect(defaultCapacities(blocks)).toEqual(expected);
  });

  it('of marks are different letters', () => {
    expect(marksOf(['lru', 's3fifo', 'sieve', 'slru'])).toEqual(['L', 'S', 'I', 'R']);
  });
});
