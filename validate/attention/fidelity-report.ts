/** A fidelity measurement as Markdown tables, for the docs. */
import type { Fidelity } from './fidelity.ts';
import type { OutcomeResiduals } from './residuals.ts';

const percent = (x: number): string => (100 * x).toFixed(1);
const signed = (x: number): string => `${x < 0 ? '−' : '+'}${Math.abs(100 * x).toFixed(1)}`;

/** Row of the summary: what prompt, and the residuals. */
export function summaryRow(name: string, { residuals }: { readonly residuals: OutcomeResiduals }): string {
  const {
    massRecallPoints,
    topkRecallPoints,
    layerRecallPoints,
    linkBytesRatio,
    tauByBudget,
    tauOverall,
    tauApart,
  } = residuals;
  const numbers = [massRecallPoints, topkRecallPoints, layerRecallPoints].map((x) => x.toFixed(1));
  return `| ${[name, ...numbers, `${percent(linkBytesRatio)} %`, tauByBudget.toFixed(2), tauOverall.toFixed(2), tauApart.toFixed(2)].join(' | ')} |`;
}

export const summaryHead = [
  '| prompt | mass recall | top-k recall | per layer | link bytes | τ by budget | τ of all | τ of those apart |',
  '|---|---|---|---|---|---|---|---|',
].join('\n');

export function outcomeTable({ real, synthetic }: Fidelity): string {
  const rows = real.map((cell, i) => {
    const made = synthetic[i];
    const mass = [
      percent(cell.massRecall),
      percent(made.massRecall),
      signed(made.massRecall - cell.massRecall),
    ];
    const top = [
      percent(cell.topkRecall),
      percent(made.topkRecall),
      signed(made.topkRecall - cell.topkRecall),
    ];
    const link = [cell.linkBytes, made.linkBytes].map((bytes) => (bytes / 1000).toFixed(1));
    return `| ${[cell.policy, cell.budgetTokens, ...mass, ...top, ...link].join(' | ')} |`;
  });
  return [
    '| policy | budget | mass recall, real | synthetic | diff. | top-k recall, real | synthetic | diff. | kB over the link, real | synthetic |',
    '|---|---|---|---|---|---|---|---|---|---|',
    ...rows,
  ].join('\n');
}

const figure = (x: number, unit: string): string => {
  if (unit === 'ratio') return x.toFixed(3);
  return x >= 100 ? x.toFixed(0) : x.toFixed(1);
};

export function statisticTable(fidelities: readonly Fidelity[], names: readonly string[]): string {
  const rows = fidelities[0].statistics.map(({ label, unit }, i) => {
    const cells = fidelities.flatMap(({ statistics }) => [
      figure(statistics[i].real, unit),
      figure(statistics[i].synthetic, unit),
    ]);
    return `| ${[label, ...cells].join(' | ')} |`;
  });
  const heads = names.flatMap((name) => [`${name}, real`, 'synthetic']);
  return [`| statistic | ${heads.join(' | ')} |`, `|---|${heads.map(() => '---|').join('')}`, ...rows].join(
    '\n',
  );
}
