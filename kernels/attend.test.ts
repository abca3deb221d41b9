/** Attention on the CPU backend: laws that hold of any softmax average, and bad page tables said in one line. */
import { afterAll, expect, it } from 'vitest';
import { describeNative, missing, openCpu } from '../test/native.ts';
import type { Backend } from './backend.ts';
import { f32View, toBf16, u32View } from './floats.ts';
import { FORMATS, pageStrideOf } from './formats.ts';
import { createRandom } from './random.ts';
import { drawPool } from './random-pages.ts';

const backend: Backend | null = missing === null ? await openCpu() : null;
afterAll(() => backend?.close());

const HEAD_DIM = 64;
const PAGE_TOKENS = 16;
const GROUP = 4;

interface Table {
  readonly pages: readonly number[];
  readonly tokens: readonly number[];
  readonly offsets: readonly number[];
}

/** Attends over a pool of 8 pages; f32 outputs, [rows, group, headDim] or parts. */
const attend = async (table: Table, { parts = 0, part = 0, into = new Float32Array(0) } = {}) => {
  if (backend === null) throw new Error('no backend');
  const random = createRandom(5);
  const rows = table.tokens.length;
  const q = Float64Array.from({ length: rows * GROUP * HEAD_DIM }, () => random.normal());
  const size = 4 * rows * GROUP * (parts > 0 ? parts * (HEAD_DIM + 2) : HEAD_DIM);
  const place = async (data: ArrayBufferView) => {
    const buffer = backend.allocate('hbm', Math.max(1, data.byteLength));
    await backend.write(buffer, 0, data);
    return { buffer, offset: 0 };
  };
  const refs = {
    q: await place(toBf16(q)),
    pool: await place(drawPool(createRandom(6), FORMATS.bf16, HEAD_DIM, PAGE_TOKENS, 8)),
    table: await place(Uint32Array.from(table.pages)),
    offsets: await place(Uint32Array.from(table.offsets)),
    tokens: await place(Uint32Array.from(table.tokens)),
    out: await place(into.length > 0 ? into : new Uint8Array(size)),
  };
  const ints = {
    rows,
    group: GROUP,
    headDim: HEAD_DIM,
    pageTokens: PAGE_TOKENS,
    format: FORMATS.bf16.id,
    pageStride: pageStrideOf(FORMATS.bf16, HEAD_DIM, PAGE_TOKENS),
    qType: 0,
    outType: 0,
    parts,
    part,
    units: 0,
  };
  try {
    const call = { kernel: 'attend', stream: 'compute', after: [], refs, ints, reals: { scale: 0 } } as const;
    await backend.run([call], { warmups: 0, repeats: 1 });
    return f32View(await backend.read(refs.out.buffer, 0, size));
  } finally {
    for (const { buffer } of Object.values(refs)) backend.free(buffer);
  }
};

const merge = async (partials: Float32Array, rows: number, parts: number) => {
  if (backend === null) throw new Error('no backend');
  const source = backend.allocate('hbm', partials.byteLength);
  const target = backend.allocate('hbm', 4 * rows * HEAD_DIM);
  await backend.write(source, 0, partials);
  const refs = { partials: { buffer: source, offset: 0 }, out: { buffer: target, offset: 0 } };
  const ints = { rows, parts, headDim: HEAD_DIM };
  await backend.run([{ kernel: 'merge', stream: 'compute', after: [], refs, ints }], {
    warmups: 0,
    repeats: 1,
  });
  return f32View(await backend.read(target, 0, 4 * rows * HEAD_DIM));
};

const apart = (a: Float32Array, b: Float32Array): number =>
  a.reduce((most, x, at) => Math.max(most, Math.abs(x - b[at])), 0);

describeNative('attend', () => {
  it('does not depend on the order of whole pages', async () => {
    const straight = await attend({ pages: [1, 2, 3, 4], tokens: [64], offsets: [0, 4] });
    const mixed = await attend({ pages: [4, 1, 3, 2], tokens: [64], offsets: [0, 4] });
    expect(apart(straight, mixed)).toBeLessThan(1e-5);
    expect(Math.max(...straight)).toBeGreaterThan(0.01);
  });

  it('gives, in parts that are merged, what it gives at once', async () => {
    const whole = await attend({ pages: [0, 5, 6, 7], tokens: [60], offsets: [0, 4] });
    const first = await attend({ pages: [0, 5], tokens: [32], offsets: [0, 2] }, { parts: 2, part: 0 });
    const both = await attend(
      { pages: [6, 7], tokens: [28], offsets: [0, 2] },
      { parts: 2, part: 1, into: Float32Array.from(first) },
    );
    expect(apart(await merge(both, GROUP, 2), whole)).toBeLessThan(1e-5);
  });

  it('gives zeros to a row of no tokens', async () => {
    const out = await attend({ pages: [3], tokens: [0, 16], offsets: [0, 0, 1] });
    expect(u32View(new Uint8Array(out.buffer, out.byteOffset, 4 * GROUP * HEAD_DIM))).toEqual(
      new Uint32Array(GROUP * HEAD_DIM),
    );
  });

  it.each([
    [{ pages: [1, 8], tokens: [20], offsets: [0, 2] }, 'attend: entry 1 is page 8, past the pool'],
    [{ pages: [1, 2], tokens: [33], offsets: [0, 2] }, 'attend: row 0 has 33 tokens and 2 pages of 16'],
    [{ pages: [1], tokens: [16], offsets: [0, 4096] }, 'attend: offsets end at entry 4096, past the table'],
  ])('refuses a page table that leads out of its buffers: %#', async (table, message) => {
    await expect(attend(table)).rejects.toMatchObject({ code: 'invalid', message });
  });
});
