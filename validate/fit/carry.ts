/**
 * Utilisation is carried over, never a rate: where a number is a share of another (achieved of peak, zero-copy of the
 * link), and that other one changes, the share stays. It keeps a profile consistent where only some of its numbers
 * were measured, and it makes the profile of a machine that one has only a datasheet of.
 */
import { loadProfile } from '../../sim/hardware/load.ts';
import type { Profile } from '../../sim/hardware/schema.ts';
import type { Stack } from '../../sim/hardware/stack-schema.ts';
import { type Constant, type MachineDescription, put, valueAt } from '../overlay.ts';

/** Number and what it is a share of, from the ground up. */
const SHARES: readonly (readonly [string, string])[] = [
  ['accelerator.hbm.achievedBytesPerNs', 'accelerator.hbm.peakBytesPerNs'],
  ['accelerator.hbm.copyBytesPerNs', 'accelerator.hbm.achievedBytesPerNs'],
  ['accelerator.compute.bf16.achievedTflops', 'accelerator.compute.bf16.peakTflops'],
  ['accelerator.compute.fp32.achievedTflops', 'accelerator.compute.fp32.peakTflops'],
  ['accelerator.compute.fp8.achievedTflops', 'accelerator.compute.fp8.peakTflops'],
  ['accelerator.compute.int8.achievedTflops', 'accelerator.compute.int8.peakTflops'],
  ['accelerator.prefillAttention.maxTflops', 'accelerator.compute.bf16.peakTflops'],
  ['host.dram.readBytesPerNs', 'host.dram.peakBytesPerNs'],
  ['host.dram.mixedBytesPerNs', 'host.dram.readBytesPerNs'],
  ['link.h2dBytesPerNs', 'link.peakBytesPerNs'],
  ['link.d2hBytesPerNs', 'link.peakBytesPerNs'],
  ['link.hostSumBytesPerNs', 'link.peakBytesPerNs'],
  ['link.uva.bytesPerNs', 'link.h2dBytesPerNs'],
  ['link.pageable.h2dBytesPerNs', 'link.h2dBytesPerNs'],
  ['link.pageable.d2hBytesPerNs', 'link.d2hBytesPerNs'],
];

/** Latencies, starts and ratios of one design: what a datasheet does not state and a machine of the same kind shares. */
const KEPT: readonly string[] = [
  'accelerator.hbm.latencyNs',
  'accelerator.launch.streamNs',
  'accelerator.launch.graphNs',
  'accelerator.gemm.startNs',
  'accelerator.gemm.tokenNs',
  'accelerator.gemm.memoryEfficiency',
  'accelerator.gemm.computeEfficiency',
  'accelerator.gemm.errorRatio',
  'accelerator.decodeAttention.startNs',
  'accelerator.decodeAttention.rampNs',
  'accelerator.decodeAttention.rampBytes',
  'accelerator.decodeAttention.waveNs',
  'accelerator.decodeAttention.turnNs',
  'accelerator.decodeAttention.turnHiddenRatio',
  'accelerator.decodeAttention.skewNs',
  'accelerator.decodeAttention.mergeNs',
  'accelerator.decodeAttention.mergeRoundNs',
  'accelerator.decodeAttention.mergeListedNs',
  'accelerator.decodeAttention.formNs',
  'accelerator.decodeAttention.rateRatio',
  'accelerator.decodeAttention.errorRatio',
  'accelerator.gather.rateRatio',
  'accelerator.gather.startNs',
  'accelerator.gather.rowNs',
  'accelerator.gather.cachedBytesPerNs',
  'accelerator.gather.errorRatio',
  'accelerator.select.startNs',
  'accelerator.select.passes',
  'accelerator.select.passNs',
  'accelerator.select.smBytesPerNs',
  'accelerator.select.joinNs',
  'accelerator.select.listNs',
  'accelerator.select.keptRatio',
  'accelerator.select.errorRatio',
  'link.latencyNs',
  'link.rampNs',
  'link.rampBytes',
  'link.dma.perCallNs',
  'link.dma.h2dGapNs',
  'link.dma.d2hGapNs',
  'link.dma.seekNs',
  'link.dma.choiceNs',
  'link.dmaBatch.setupNs',
  'link.dmaBatch.rowNs',
  'link.pageable.latencyNs',
  'link.pageable.d2hLatencyNs',
  'link.uva.outstanding',
  'link.uva.roundTripNs',
  'link.uva.reachBytes',
  'link.uva.walkNs',
  'link.uva.startNs',
  'link.errorRatio',
  'host.cpu.startNs',
  'host.cpu.rowNs',
  'host.cpu.threadBytesPerNs',
  'host.cpu.copyBytesPerNs',
  'host.cpu.readBytesPerNs',
  'host.cpu.errorRatio',
];

const constantOf = (value: number, how: string, from: Profile): Constant => ({
  value: Number(value.toPrecision(5)),
  status: 'assumed',
  source: `carried over from ${from.name}`,
  date: from.accelerator.hbm.achievedBytesPerNs.date,
  how,
});

const under = (path: string): string => `hardware.${path}`;

const shareOf = (description: MachineDescription, path: string, of: string): number | undefined => {
  const [value, whole] = [valueAt(description, under(path)), valueAt(description, under(of))];
  return value === undefined || whole === undefined ? undefined : value / whole;
};

/** Numbers that were not measured keep their share of those that were and moved; `measured` holds full paths. */
export const keepShares = (
  description: MachineDescription,
  base: MachineDescription,
  measured: ReadonlySet<string>,
): void => {
  for (const [path, of] of SHARES) {
    if (measured.has(under(path)) || valueAt(description, under(of)) === valueAt(base, under(of))) continue;
    const share = shareOf(base, path, of);
    const whole = valueAt(description, under(of)) ?? 0;
    if (share !== undefined)
      put(description, under(path), constantOf(share * whole, `share of ${of}`, base.hardware));
  }
};

/**
 * The profile of machine `to` from its datasheet (peak rates, sizes, counts) and the utilisations and latencies measured
 * on `from`. Numbers of `to` that neither a datasheet states nor `from` measured stay.
 */
export const transfer = (from: Profile, to: Profile, stack: Stack, name: string): Profile => {
  const source = { hardware: from, stack };
  const target = structuredClone({ hardware: to, stack });
  for (const [path, of] of SHARES) {
    const share = shareOf(source, path, of);
    const whole = valueAt(target, under(of));
    if (share === undefined || whole === undefined) continue;
    put(target, under(path), constantOf(share * whole, `share of ${of} on ${from.name}`, from));
  }
  for (const path of KEPT) {
    const value = valueAt(source, under(path));
    if (value !== undefined) put(target, under(path), constantOf(value, `as on ${from.name}`, from));
  }
  return loadProfile({ ...target.hardware, name, aliases: [] }, `transfer to ${name}`);
};
