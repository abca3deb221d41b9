/** What the views of an inspection share: the result, which statistic and head are chosen, and numbers in words. */
import type { InspectedHead } from '../../traces/attention/inspect/inspect.ts';
import type { InspectionResult } from '../../traces/attention/inspect/result.ts';
import { STATISTICS, type Statistic, type Unit } from '../../traces/attention/inspect/statistics.ts';
import { formatNumber, formatRatio } from '../app/format.ts';
import type { Store } from '../app/store.ts';
import type { Tip, TipLine } from '../app/tip.ts';

export interface InspectState {
  /** Key of the statistic that the heat map shows. */
  readonly statistic: string;
  /** The head whose curve is drawn. */
  readonly layer: number;
  readonly head: number;
}

export interface InspectPage {
  readonly result: InspectionResult;
  readonly store: Store<InspectState>;
  readonly tip: Tip;
}

/** One head of the heat map. */
export interface Cell {
  readonly layer: number;
  readonly head: InspectedHead;
}

export const cellsOf = ({ layers }: InspectionResult): readonly Cell[] =>
  layers.flatMap(({ layer, heads }) => heads.map((head) => ({ layer, head })));

export const statisticOf = (key: string): Statistic =>
  STATISTICS.find((statistic) => statistic.key === key) ?? STATISTICS[1];

/** Statistics that this trace has at all (a single KV head's heads have no group, one step has no next). */
export const knownStatistics = (result: InspectionResult): readonly Statistic[] =>
  STATISTICS.filter(({ of }) => cellsOf(result).some(({ head }) => of(head) !== null));

export const formatValue = (value: number | null, unit: Unit): string => {
  if (value === null) return 'not measured';
  if (unit === 'ratio') return formatRatio(value);
  return `${formatNumber(value)} ${unit}`;
};

export const nameOfCell = (layer: number, head: number): string => `layer ${layer}, head ${head}`;

/** What the tip of a head says: the chosen statistic first. */
export const linesOf = (head: InspectedHead, chosen: Statistic): readonly TipLine[] => {
  const others = ['top-1%', 'oracle-90%', 'sink', 'recent-256', 'jaccard-top'].filter(
    (key) => key !== chosen.key,
  );
  return [chosen, ...others.map(statisticOf)].map((statistic) => [
    statistic.label,
    formatValue(statistic.of(head), statistic.unit),
  ]);
};
