/** How far the outcomes on one trace are from those on another: differences in percentage points, and rank agreement. */
import { mean } from '../../sim/engine/stats.ts';
import type { OutcomeCell } from './outcomes.ts';

export interface OutcomeResiduals {
  /** Mean absolute difference over policies and budgets, percentage points. */
  readonly massRecallPoints: number;
  readonly topkRecallPoints: number;
  /** The same between single layers: what averages over layers hide. */
  readonly layerRecallPoints: number;
  /** Mean of |synthetic ÷ real - 1| of KV bytes a step, and of those that cross the link. */
  readonly kvBytesRatio: number;
  readonly linkBytesRatio: number;
  /** Kendall's tau of the policies' order by mass recall, mean over budgets, and of all cells together. */
  readonly tauByBudget: number;
  readonly tauOverall: number;
  /** Of all cells, among the pairs that are more than `apartPoints` apart in the real trace: closer ones change places
   * between two real prompts of one task. */
  readonly tauApart: number;
}

/** Percentage points by which two outcomes have to differ for their order to mean something. */
const apartPoints = 2;

/**
 * Kendall's tau-b of two lists, where pairs that differ by less than `tie` in either list count as tied in it.
 * 1 for the same order; 1 too when everything is tied.
 */
export function kendallTau(a: readonly number[], b: readonly number[], tie = 0): number {
  let agree = 0;
  let pairsA = 0;
  let pairsB = 0;
  const order = (x: number, y: number): number => (Math.abs(x - y) <= tie ? 0 : Math.sign(x - y));
  for (let i = 0; i < a.length; i++) {
    for (let j = i + 1; j < a.length; j++) {
      const [inA, inB] = [order(a[i], a[j]), order(b[i], b[j])];
      agree += inA * inB;
      pairsA += Math.abs(inA);
      pairsB += Math.abs(inB);
    }
  }
  return pairsA === 0 && pairsB === 0 ? 1 : agree / Math.max(1, Math.sqrt(pairsA * pairsB));
}

/** Share of ordered pairs less that of disordered ones, of the pairs of `a` that differ by more than `apart`. */
function tauOfApart(a: readonly number[], b: readonly number[], apart: number): number {
  let [agree, pairs] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    for (let j = i + 1; j < a.length; j++) {
      if (Math.abs(a[i] - a[j]) <= apart) continue;
      pairs++;
      agree += Math.sign(a[i] - a[j]) * Math.sign(b[i] - b[j]);
    }
  }
  return pairs === 0 ? 1 : agree / pairs;
}

/** Mean of the cells of several traces, one by one: what a comparison over many prompts would say. */
export function meanCells(all: readonly (readonly OutcomeCell[])[]): readonly OutcomeCell[] {
  return all[0].map((cell, i) => {
    const of = (value: (cell: OutcomeCell) => number): number => mean(all.map((cells) => value(cells[i])));
    return {
      ...cell,
      massRecall: of(({ massRecall }) => massRecall),
      topkRecall: of(({ topkRecall }) => topkRecall),
      kvBytes: of(({ kvBytes }) => kvBytes),
      linkBytes: of(({ linkBytes }) => linkBytes),
      layerRecall: cell.layerRecall.map((_, layer) => of(({ layerRecall }) => layerRecall[layer])),
    };
  });
}

/** Both lists as measureOutcomes gives them, for the same policies, budgets and layers. */
export function compareOutcomes(
  real: readonly OutcomeCell[],
  synthetic: readonly OutcomeCell[],
): OutcomeResiduals {
  const points = (of: (cell: OutcomeCell) => number): number =>
    100 * mean(real.map((cell, i) => Math.abs(of(synthetic[i]) - of(cell))));
  const ratio = (of: (cell: OutcomeCell) => number): number =>
    mean(real.flatMap((cell, i) => (of(cell) > 0 ? [Math.abs(of(synthetic[i]) / of(cell) - 1)] : [])));
  const budgets = [...new Set(real.map(({ budgetTokens }) => budgetTokens))];
  const recalls = (cells: readonly OutcomeCell[], budget: number): number[] =>
    cells.filter(({ budgetTokens }) => budgetTokens === budget).map(({ massRecall }) => massRecall);
  return {
    massRecallPoints: points(({ massRecall }) => massRecall),
    topkRecallPoints: points(({ topkRecall }) => topkRecall),
    layerRecallPoints: mean(
      real[0].layerRecall.map((_, layer) => points(({ layerRecall }) => layerRecall[layer])),
    ),
    kvBytesRatio: ratio(({ kvBytes }) => kvBytes),
    linkBytesRatio: ratio(({ linkBytes }) => linkBytes),
    tauByBudget: mean(budgets.map((budget) => kendallTau(recalls(real, budget), recalls(synthetic, budget)))),
    tauOverall: kendallTau(
      real.map(({ massRecall }) => massRecall),
      synthetic.map(({ massRecall }) => massRecall),
    ),
    tauApart: tauOfApart(
      real.map(({ massRecall }) => massRecall),
      synthetic.map(({ massRecall }) => massRecall),
      apartPoints / 100,
    ),
  };
}
