/** The comparison as text that a newcomer understands: what was run, a table, and what its columns mean. */
import { loadProfile } from '../sim/hardware/load.ts';
import type { CompareResult, PolicyResult } from '../sim/result.ts';
import type { CompareSetup } from './compare-setup.ts';
import { formatBytes, formatCount, formatNs, formatRatio } from './format.ts';
import { renderTable } from './table.ts';

const HEADER = [
  'policy',
  'step',
  '±',
  'tok/s',
  'waits for',
  'in/step',
  'out/step',
  'HBM/step',
  'KV in HBM',
  'KV in DRAM',
  'recall',
  'worst 5 %',
  'output error',
];

const LEGEND = [
  'step: time of one decode step (mean). ±: by how much, if all errors of the cost model pointed one way (? = beyond',
  'the range that it was calibrated on). waits for: what its critical path waits for most, and the share of it.',
  'in/step, out/step: KV that crosses the host link into and out of the GPU. HBM/step: KV and index bytes read in HBM.',
  "KV in HBM, KV in DRAM: peak resident KV, staging included. recall: share of exact attention's mass that the",
  'policy attends to (mean, and 5th percentile over heads and steps). output error: relative L2 error of attention outputs.',
];

const bytesAcross = ({ traffic: by }: Pick<PolicyResult, 'traffic'>, key: string): number => {
  const traffic = by[key];
  return traffic !== undefined && 'bytesPerStep' in traffic ? traffic.bytesPerStep : 0;
};

const hbmRead = (result: PolicyResult): number => {
  const { hbm } = result.traffic;
  return hbm !== undefined && 'readBytesPerStep' in hbm ? hbm.readBytesPerStep : 0;
};

const misfit = (short: Readonly<Record<string, number>>): string =>
  Object.entries(short)
    .map(([tier, bytes]) => `${formatBytes(bytes)} too much for ${tier.toUpperCase()}`)
    .join(', ');

/** How far the cost model's errors could move the step, if all pointed one way; '?' outside its calibrated range. */
const errorOf = ({ stepNs, stepIntervalNs, domain }: PolicyResult): string => {
  const [loNs, hiNs] = stepIntervalNs;
  const ratio = Math.max(hiNs - stepNs.mean, stepNs.mean - loNs) / stepNs.mean;
  return `${Math.round(100 * ratio)} %${domain === 'extrapolated' ? '?' : ''}`;
};

const rowOf = (result: PolicyResult): readonly string[] => {
  const { quality } = result;
  return [
    result.fits ? result.policy : `${result.policy} (!)`,
    formatNs(result.stepNs.mean),
    errorOf(result),
    formatCount(result.tokensPerS),
    `${result.bound.resource} ${Math.round(100 * result.bound.share)} %`,
    formatBytes(bytesAcross(result, 'dram->hbm')),
    formatBytes(bytesAcross(result, 'hbm->dram')),
    formatBytes(hbmRead(result)),
    formatBytes(result.resident.hbm.kvPeakBytes),
    formatBytes(result.resident.dram.kvPeakBytes),
    quality === null ? '–' : formatRatio(quality.massRecall.mean),
    quality === null ? '–' : formatRatio(quality.massRecall.p5),
    quality?.outputError == null ? '–' : formatRatio(quality.outputError),
  ];
};

const title = (setup: CompareSetup): string => {
  const { experiment } = setup;
  const { contextTokens, steps, batch, dense } = experiment;
  const machine = loadProfile(experiment.hardware).title;
  return `${setup.traceTitle}: ${contextTokens} tokens in the cache, ${steps} decode steps, batch ${batch}, on ${machine}${dense ? '' : ', attention only'}`;
};

export const renderComparison = (result: CompareResult, setup: CompareSetup, columns: number): string => {
  const right = HEADER.map((_, at) => at).filter((at) => at !== 0 && at !== 4);
  const table = renderTable(HEADER, result.policies.map(rowOf), { columns: Math.max(columns, 160), right });
  const misfits = result.policies.filter(({ fits }) => !fits);
  const lines = [title(setup), '', table.trimEnd(), '', ...LEGEND];
  for (const { policy, shortBytes } of misfits)
    lines.push(`(!) ${policy} does not fit: ${misfit(shortBytes ?? {})}. Times are as if it did.`);
  for (const { policy, inputs } of result.policies)
    if (inputs !== 'exact') lines.push(`${policy}: ${inputs}.`);
  for (const { policy, resident, ...rest } of result.policies)
    if (resident.nvme !== undefined)
      lines.push(
        `${policy}: ${formatBytes(resident.nvme.kvPeakBytes)} of KV on NVMe, ${formatBytes(bytesAcross(rest, 'nvme->dram'))} of it read a step.`,
      );
  lines.push(...result.notes, `digest ${result.digest.slice(0, 16)}`);
  return lines.join('\n');
};
