/**
 * The leaderboard's numbers: what each policy costs relative to full attention and what it loses, per trace and over all
 * traces, and which policies no other beats. Pure functions of results.
 */
import { paretoFront } from '../sim/engine/pareto.ts';
import { mean } from '../sim/engine/stats.ts';
import type { CompareResult, PolicyResult } from '../sim/result.ts';

/** What is paid: KV and index bytes read in HBM, in DRAM or over the link, time, and KV memory on the GPU. */
export const costs = ['bytesPerStep', 'stepNs', 'hbmBytes'] as const;
export type Cost = (typeof costs)[number];

export interface Row {
  readonly policy: string;
  /** False for a policy that takes no token budget and runs with its own defaults. */
  readonly atBudget: boolean;
  readonly bytesPerStep: number;
  readonly stepNs: number;
  readonly hbmBytes: number;
  /** The part of the bytes that crosses the host link. */
  readonly linkBytesPerStep: number;
  readonly massRecall: number;
  readonly outputError: number;
  /** True when no policy is as good in all costs and in error, and better in one of them. */
  readonly best: boolean;
  /** Costs in which no policy is both cheaper and nearer to exact attention. */
  readonly fronts: readonly Cost[];
  readonly inputs: string;
}

/** Values without their fronts. */
export type Measured = Omit<Row, 'fronts' | 'best'>;

const bytesOf = (result: PolicyResult, key: string, field: string): number => {
  const traffic: Readonly<Record<string, number>> | undefined = result.traffic[key];
  return traffic?.[field] ?? 0;
};

const measured = (result: PolicyResult, atBudget: boolean): Measured => {
  const linkBytesPerStep =
    bytesOf(result, 'dram->hbm', 'bytesPerStep') + bytesOf(result, 'hbm->dram', 'bytesPerStep');
  const massRecall = result.quality?.massRecall.mean ?? 0;
  return {
    policy: result.policy,
    atBudget,
    bytesPerStep:
      bytesOf(result, 'hbm', 'readBytesPerStep') +
      bytesOf(result, 'dram', 'readBytesPerStep') +
      linkBytesPerStep,
    stepNs: result.stepNs.mean,
    hbmBytes: result.resident.hbm.kvPeakBytes,
    linkBytesPerStep,
    massRecall,
    // A trace without values tells the lost mass, which bounds the error.
    outputError: result.quality?.outputError ?? 1 - massRecall,
    inputs: result.inputs,
  };
};

export const withFronts = (rows: readonly Measured[]): readonly Row[] => {
  const fronts = costs.map((cost) => new Set(paretoFront(rows.map((row) => [row[cost], row.outputError]))));
  const best = new Set(paretoFront(rows.map((row) => [...costs.map((cost) => row[cost]), row.outputError])));
  return rows.map((row, i) => ({
    ...row,
    best: best.has(i),
    fronts: costs.filter((_, at) => fronts[at].has(i)),
  }));
};

/** Rows of one comparison; `without` are the policies that take no budget. */
export const rowsOf = ({ policies }: CompareResult, without: readonly string[]): readonly Row[] =>
  withFronts(policies.map((result) => measured(result, !without.includes(result.policy))));

/** Means over traces; costs are relative to full attention on the same trace. Only policies that ran on all of them. */
export const overall = (boards: readonly (readonly Row[])[]): readonly Row[] => {
  const relative = boards.map((rows) => {
    const full = rows.find(({ policy }) => policy === 'full');
    if (full === undefined) throw new Error('a board needs full attention to relate to');
    return new Map(
      rows.map((row) => [
        row.policy,
        {
          ...row,
          bytesPerStep: row.bytesPerStep / full.bytesPerStep,
          linkBytesPerStep: row.linkBytesPerStep / full.bytesPerStep,
          stepNs: row.stepNs / full.stepNs,
          hbmBytes: row.hbmBytes / full.hbmBytes,
        },
      ]),
    );
  });
  const shared = boards[0].filter(({ policy }) => relative.every((board) => board.has(policy)));
  const means = shared.map((first): Measured => {
    const of = (field: Cost | 'linkBytesPerStep' | 'massRecall' | 'outputError'): number =>
      mean(relative.map((board) => board.get(first.policy)?.[field] ?? 0));
    return {
      policy: first.policy,
      atBudget: first.atBudget,
      bytesPerStep: of('bytesPerStep'),
      stepNs: of('stepNs'),
      hbmBytes: of('hbmBytes'),
      linkBytesPerStep: of('linkBytesPerStep'),
      massRecall: of('massRecall'),
      outputError: of('outputError'),
      inputs: first.inputs,
    };
  });
  return withFronts(means);
};
