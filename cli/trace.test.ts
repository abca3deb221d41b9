/** `kvtier trace`: documents, files, round trips, and what it refuses. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { recordedContext } from '../test/recorded-context.ts';
import { openAttentionFile } from '../traces/attention/node-file.ts';
import { failureOf } from './failure.ts';
import { verb } from './trace.ts';
import { checkPlace } from './trace-files.ts';

const TINY = fileURLToPath(new URL('../traces/attention/fixtures/tiny.safetensors', import.meta.url));
const SLIDING = fileURLToPath(
  new URL('../traces/attention/fixtures/tiny-sliding.safetensors', import.meta.url),
);

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'kvtier-trace-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

const run = async (
  action: string,
  files: readonly string[],
  given: Readonly<Record<string, unknown>> = {},
  columns = 120,
) => {
  const { context, documents, lines } = recordedContext({ columns });
  await verb.run(verb.flags.parse({ action, files, ...given }), context);
  return { document: documents[0] as Record<string, never>, text: lines.join('\n') };
};

const failure = async (
  action: string,
  files: readonly string[],
  given: Readonly<Record<string, unknown>> = {},
) => {
  try {
    await run(action, files, given);
  } catch (error) {
    return failureOf(error);
  }
  throw new Error('expected a failure');
};

const generate = { synthetic: 'qwen2.5-0.5b', context: 300, steps: 4, layers: '2,5' };

describe('trace inspect', () => {
  it('describes every layer and head of a recorded trace', async () => {
    const { document, text } = await run('inspect', [TINY]);
    expect(document).toMatchObject({
      format: 'kvtier.result/1',
      kind: 'trace-inspect',
      seed: 1,
      experiment: { trace: { kind: 'file', name: 'tiny.safetensors' } },
      trace: { name: 'tiny.safetensors', shape: { heads: 4, kvHeads: 2 } },
    });
    const { layers } = document as unknown as { layers: { heads: { head: number; kvHead: number }[] }[] };
    expect(layers[0].heads.map(({ head, kvHead }) => [head, kvHead])).toEqual([
      [0, 0],
      [1, 0],
      [2, 1],
      [3, 1],
    ]);
    expect(text).toContain('K(90%)');
    expect((await run('inspect', [TINY])).document.digest).toBe(document.digest);
  });

  it('shows every head where there is room, else every KV head, else the numbers alone', async () => {
    const headers = [];
    for (const columns of [120, 84, 60]) {
      const { text } = await run('inspect', [TINY], {}, columns);
      headers.push(/best\/16 *(.*)/.exec(text)?.[1]);
    }
    expect(headers[0]).toBe('heads');
    expect(headers[2]).toBe('');
  });

  it('says why these layers', async () => {
    const { document } = await run('inspect', [TINY], { layers: '2' });
    expect((document.notes as unknown as string[])[0]).toBe('Layers 2 of 4: as asked.');
    const all = await run('inspect', [TINY]);
    expect((all.document.notes as unknown as string[])[0]).toBe('Layers 1, 2 of 4: what the trace records.');
  });

  it('keeps to the window of sliding layers', async () => {
    const { document } = await run('inspect', [SLIDING]);
    const { layers, notes } = document as unknown as {
      layers: { windowTokens: number | null }[];
      notes: string[];
    };
    expect(layers.some(({ windowTokens }) => windowTokens !== null)).toBe(true);
    expect(notes.join(' ')).toMatch(/attend to their last \d+ tokens only/);
  });

  it('looks at what a generator makes, the same for a seed', async () => {
    const look = (seed: number) =>
      run('inspect', [], { synthetic: 'qwen2.5-0.5b', context: 400, layers: '3', steps: 4, seed });
    const { document } = await look(7);
    expect(document).toMatchObject({
      experiment: { layers: [3], steps: [0, 1, expect.anything(), expect.anything()] },
    });
    expect((await look(7)).document).toEqual(document);
    expect((await look(8)).document.digest).not.toBe(document.digest);
  });
});

describe('trace generate', () => {
  it('writes a trace that reads back as what was generated, the same bytes for a seed', async () => {
    const out = at('g.safetensors');
    const { document } = await run('generate', [], { ...generate, out });
    expect(document).toMatchObject({
      kind: 'trace-generate',
      file: 'g.safetensors',
      trace: { fields: ['k', 'v', 'q', 'qprompt'] },
    });
    const file = openAttentionFile(out);
    expect(file.shape).toMatchObject({
      promptTokens: 300,
      steps: 4,
      recordedLayers: [2, 5],
      heads: 14,
      kvHeads: 2,
    });
    expect(file.digest).toBe((document.trace as { digest: string }).digest);
    file.close();
    await run('generate', [], { ...generate, out: at('h.safetensors') });
    expect(readFileSync(at('h.safetensors'))).toEqual(readFileSync(out));
    const single = await run('generate', [], { ...generate, dtype: 'F32', out: at('f.safetensors') });
    expect(single.document.sizeBytes).toBeGreaterThan(1.9 * Number(document.sizeBytes));
  });

  it('replaces a file only with --force, and leaves nothing half-written', async () => {
    const out = at('kept.safetensors');
    writeFileSync(out, 'mine');
    const refused = await failure('generate', [], { ...generate, out });
    expect(refused).toEqual({ exitCode: 2, message: `${out}: exists; pass --force to replace it` });
    expect(readFileSync(out, 'utf8')).toBe('mine');
    await run('generate', [], { ...generate, out, force: true });
    expect(readFileSync(out).length).toBeGreaterThan(1000);
    expect(readdirSync(folder).filter((name) => name.includes('.partial'))).toEqual([]);
  });

  it('says before it begins that the disk is too small', () => {
    expect(() => checkPlace(at('giant.safetensors'), false, 2 ** 60)).toThrow(
      /giant\.safetensors: needs 1153 PB, .* has .* free$/,
    );
    expect(() => checkPlace(at('small.safetensors'), false, 1)).not.toThrow();
  });
});

describe('trace convert', () => {
  it('goes to Parquet and back, and the mass is that of the trace', async () => {
    const there = await run('convert', [TINY, at('t.parquet')], { blockTokens: 16, detail: true });
    expect(there.document).toMatchObject({
      kind: 'trace-convert',
      experiment: { blockTokens: 16, detail: true },
    });
    const back = await run('convert', [at('t.parquet'), at('t.safetensors')]);
    expect(back.document.rows).toBe(there.document.rows);
    const mass = openAttentionFile(at('t.safetensors'));
    expect(mass.metadata.fields).toEqual(['mass']);
    const [layer] = mass.shape.recordedLayers;
    const { blockTokens, mass: dense } = mass.blockMass(layer);
    expect(blockTokens).toBe(16);
    const blocks = dense.length / (mass.shape.steps * mass.shape.kvHeads);
    for (let from = 0; from < dense.length; from += blocks)
      expect(dense.subarray(from, from + blocks).reduce((a, b) => a + b, 0)).toBeCloseTo(1, 4);
    await run('convert', [at('t.safetensors'), at('t2.parquet')]);
    await run('convert', [at('t2.parquet'), at('t3.safetensors')]);
    expect(readFileSync(at('t3.safetensors'))).toEqual(readFileSync(at('t.safetensors')));
    mass.close();
  });

  it('takes a table of another tool with --model and --block-tokens', async () => {
    const columns = { step: [0, 1], layer: [3, 3], kvHead: [0, 1], block: [0, 2], mass: [1, 0.5] };
    const columnData = Object.entries(columns).map(([name, data]) => ({
      name,
      data,
      type: name === 'mass' ? ('DOUBLE' as const) : ('INT32' as const),
    }));
    writeFileSync(at('bare.parquet'), new Uint8Array(parquetWriteBuffer({ columnData })));
    const asked = await failure('convert', [at('bare.parquet'), at('bare.safetensors')]);
    expect(asked.exitCode).toBe(2);
    expect(asked.message).toContain('pass --model and --block-tokens');
    const { document } = await run('convert', [at('bare.parquet'), at('bare.safetensors')], {
      model: 'qwen2.5-0.5b',
      blockTokens: 32,
    });
    expect(document.trace).toMatchObject({ promptTokens: 94, steps: 2, kvHeads: 2 });
    const short = { model: 'qwen2.5-0.5b', blockTokens: 32, context: 40, force: true };
    expect((await failure('convert', [at('bare.parquet'), at('bare.safetensors')], short)).message).toMatch(
      /--context 40: with 2 steps that is 2 blocks of 32, .* has 3/,
    );
  });
});

describe('what is wrong is one line', () => {
  it.each<[string, readonly string[], Record<string, unknown>, RegExp]>([
    ['inspect', ['nowhere.safetensors'], {}, /^nowhere\.safetensors: no such file$/],
    ['inspect', [TINY, TINY], {}, /expected one file, got 2/],
    ['inspect', [TINY], { synthetic: 'qwen2.5-0.5b' }, /expected no file beside it/],
    ['inspect', [TINY], { context: 10 }, /--context: needs --synthetic/],
    ['inspect', [TINY], { layers: '99' }, /--layers 99: the trace has keys and queries of layers/],
    ['inspect', [TINY], { layers: '1,x' }, /--layers 1,x: expected auto, all, or a list/],
    [
      'inspect',
      [TINY],
      { force: true },
      /--force: has no meaning with trace inspect, which takes --synthetic/,
    ],
    ['generate', [], { out: 'x.safetensors' }, /--synthetic: is required/],
    ['generate', [], { ...generate }, /--out: is required/],
    ['generate', [], { ...generate, out: 'x.bin' }, /ends in \.safetensors/],
    ['generate', [], { ...generate, out: '/nowhere/x.safetensors' }, /folder \/nowhere does not exist/],
    [
      'generate',
      [],
      { ...generate, layers: '24', out: 'x.safetensors' },
      /--layers 24: expected layers below 24/,
    ],
    [
      'generate',
      [],
      { ...generate, layers: 'auto', out: 'x.safetensors' },
      /--layers auto: expected all, or a list/,
    ],
    ['generate', ['x.safetensors'], generate, /expected no file argument/],
    [
      'convert',
      [TINY, 'x.parquet'],
      { model: 'qwen2.5-0.5b' },
      /--model: has no meaning here: .*tiny\.safetensors says it/,
    ],
    ['convert', [TINY], {}, /expected two files, IN and OUT, got 1/],
    ['convert', [TINY, 'x.csv'], {}, /x\.csv: expected a name that ends in/],
    ['convert', [TINY, 'x.safetensors'], {}, /x\.safetensors: expected \.parquet/],
    ['convert', [TINY, '/nowhere/x.parquet'], {}, /folder \/nowhere does not exist/],
    ['convert', [TINY, 'x.parquet'], { layers: '1,77' }, /--layers 77: .* records layers/],
    ['convert', [TINY, TINY.replace('tiny.safetensors', '')], {}, /ends in/],
  ])('%s %j %j', async (action, files, given, message) => {
    const { exitCode, message: line } = await failure(action, files, given);
    expect(exitCode).toBe(2);
    expect(line).toMatch(message);
    expect(line).not.toContain('\n');
  });

  it('for tables that are none, and places that are taken', async () => {
    writeFileSync(at('bad.parquet'), 'PAR1 no PAR1');
    expect((await failure('convert', [at('bad.parquet'), at('x.safetensors')])).message).toMatch(
      /expected a Parquet table/,
    );
    mkdirSync(at('folder.parquet'));
    expect((await failure('convert', [TINY, at('folder.parquet')], { force: true })).message).toMatch(
      /expected a file's name/,
    );
    expect(existsSync(at('x.safetensors'))).toBe(false);
  });
});
