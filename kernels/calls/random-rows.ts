/** Random bytes, and cases of the two kernels that move chosen rows (gather and scatter), which mirror each other. */
import { type KernelCase, ROW_MODES, rowsExtent, type Tier } from '../calls.ts';
import type { Random } from '../random.ts';

export const randomBytes = (random: Random, count: number): Uint8Array =>
  Uint8Array.from({ length: count }, () => random.uint32() & 255);

/** `count` different numbers below `of`, in random order. */
export const distinct = (random: Random, count: number, of: number): Uint32Array => {
  const all = Uint32Array.from({ length: of }, (_, i) => i);
  for (let i = 0; i < count; i++) {
    const at = random.integer(i, of - 1);
    [all[i], all[at]] = [all[at], all[i]];
  }
  return all.slice(0, count);
};

/** A case of `gather` (the source is the pool) or `scatter` (the target is). Rows of the pool are chosen once each. */
export const randomRows = (random: Random, name: 'gather' | 'scatter'): KernelCase => {
  const rows = random.integer(1, 70);
  const pool = rows + random.integer(0, 40);
  const rowBytes = random.among([2, 12, 16, 64, 72, 128, 1024, 4096]);
  const poolStride = rowBytes + random.among([0, 0, 16]);
  const rowStride = rowBytes + random.among([0, 0, 4]);
  const mode = random.integer(0, ROW_MODES.length - 1);
  const staged = ROW_MODES[mode] === 'staged';
  const poolTier: Tier = ROW_MODES[mode] === 'kernel' ? random.among(['hbm', 'dram']) : 'dram';
  const sizes = {
    pool: rowsExtent(pool, rowBytes, poolStride),
    rows: rowsExtent(rows, rowBytes, rowStride),
  };
  const gather = name === 'gather';
  const [from, to] = gather ? (['pool', 'rows'] as const) : (['rows', 'pool'] as const);
  const tiers: Record<'pool' | 'rows', Tier> = { pool: poolTier, rows: 'hbm' };
  const index = distinct(random, rows, pool);
  return {
    label: `${name} ${rows} of ${pool} rows of ${rowBytes} bytes, mode ${ROW_MODES[mode]}`,
    buffers: {
      source: { tier: tiers[from], data: randomBytes(random, sizes[from]) },
      index: {
        tier: ROW_MODES[mode] === 'kernel' ? random.among(['hbm', 'dram']) : 'dram',
        data: new Uint8Array(index.buffer),
      },
      target: { tier: tiers[to], data: sizes[to] },
      ...(staged ? { staging: { tier: 'dram' as const, data: rows * rowBytes } } : {}),
    },
    ints: {
      rows,
      rowBytes,
      sourceStride: gather ? poolStride : rowStride,
      targetStride: gather ? rowStride : poolStride,
      mode,
      units: random.among([0, 2]),
    },
    outputs: [{ ref: 'target', bytes: sizes[to], type: 'u8', tolerance: 0 }],
  };
};
