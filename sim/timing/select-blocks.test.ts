/** How top-k shares rows among multiprocessors, held to what the kernels' launches do (kernels/cuda/select.h, select-counts.h). */
import { expect, test } from 'vitest';
import { selectBlocks } from './select-blocks.ts';

/** Clusters of 1, 2, … blocks that an H100 runs at once. */
const CLUSTERS = [132, 66, 44, 32, 26, 20, 16, 16, 12, 12, 10, 10, 8, 8, 8, 8];

test('many rows of middling length find their place at once with half the threads', () => {
  const few = { rows: 128, of: 6144, k: 100 };
  expect(selectBlocks(few, CLUSTERS)).toMatchObject({ turns: 1, swept: 8192, shared: false });
  expect(selectBlocks({ ...few, rows: 256 }, CLUSTERS)).toMatchObject({ turns: 1, swept: 8192, few: false });
});

test('a block keeps 64 small counts a thread, in whole loads of eight', () => {
  const counts = { k: 6528, keys: 'counts' } as const;
  expect(selectBlocks({ rows: 256, of: 65_276, ...counts }, CLUSTERS)).toMatchObject({
    swept: 65_536,
    turns: 1,
  });
  expect(selectBlocks({ rows: 100, of: 65_276, ...counts }, CLUSTERS)).toMatchObject({
    swept: 65_536,
    turns: 1,
  });
  expect(selectBlocks({ rows: 8, of: 65_276, ...counts }, CLUSTERS)).toMatchObject({
    swept: 8192,
    shared: true,
  });
  expect(selectBlocks({ rows: 8, of: 8000, ...counts, k: 800 }, CLUSTERS)).toMatchObject({
    swept: 8192,
    shared: false,
  });
});
