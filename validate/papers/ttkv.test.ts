/** TTKV's headline, from blocks, codes and a fast tier, at the share of slow blocks that the paper file assumes. */
import { expect, it } from 'vitest';
import { loadPaper } from './papers.ts';
import { reproduce } from './reproduce.ts';

it('cross-tier traffic falls as published, within 10 %, and the share decides it', () => {
  const paper = loadPaper('ttkv');
  const cells = paper.cells.filter(({ table }) => table === 'Traffic');
  const [sensitivity] = paper.sensitivity;
  const { summary, sensitivity: rows } = reproduce({
    ...paper,
    cells,
    sensitivity: [{ ...sensitivity, values: [0.6] }],
  });
  expect(summary.test.simulated).toBe(2);
  expect(summary.test.worstError).toBeLessThan(0.1);
  expect(rows.map(({ errorRatio }) => Math.sign(errorRatio))).toEqual([-1]);
});
