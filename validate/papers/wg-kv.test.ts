/** The best documented table of the collection, held to what was promised of it: no test cell far off, few a little. */
import { expect, it } from 'vitest';
import { loadPaper } from './papers.ts';
import { reproduce } from './reproduce.ts';

/** Every other length, to be quick; `kvtier reproduce wg-kv` does them all. */
const LENGTHS = [100_000, 200_000, 300_000];

it('WG-KV on an H200: test cells within 5 % (median) and 10 % (worst)', () => {
  const paper = loadPaper('wg-kv');
  const cells = paper.cells.filter(({ setup }) => LENGTHS.includes(setup.contextTokens ?? 0));
  const { summary, cells: results } = reproduce({ ...paper, cells, sensitivity: [] });
  expect(results.filter(({ simulated }) => simulated === null)).toEqual([]);
  expect(summary.test.simulated).toBeGreaterThan(35);
  expect(summary.test.medianError).toBeLessThan(0.05);
  expect(summary.test.worstError).toBeLessThan(0.1);
  expect(summary.calibration.worstError).toBeLessThan(0.001);
});

it('a policy that no catalog has leaves a cell without a number, and says so', () => {
  const paper = loadPaper('wg-kv');
  const [cell] = paper.cells;
  const setup = { ...cell.setup, contextTokens: 4096, policy: { name: 'nobody', config: {} } };
  const { cells, summary } = reproduce({ ...paper, cells: [{ ...cell, setup }], sensitivity: [] });
  expect(cells[0]).toMatchObject({ simulated: null, errorRatio: null });
  expect(cells[0].note).toMatch(/unknown policy "nobody"/);
  expect(summary.calibration).toMatchObject({ cells: 1, simulated: 0, medianError: null });
});
