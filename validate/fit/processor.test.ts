/** A processor's profile states itself, not the GPU of its base, and its copies do not bound what kernels read. */
import { describe, expect, it } from 'vitest';
import { loadProfile, loadStack } from '../../sim/hardware/load.ts';
import { resolveMachine } from '../../sim/timing/cost.ts';
import { gatherOf } from '../../sim/timing/cost-cases.ts';
import { transferOf } from '../microbench/microbench.ts';
import { scoreOf } from '../microbench/score-sites.ts';
import { predictNs } from '../predict-site.ts';
import type { Samples, SiteSamples } from '../samples.ts';
import { fitMachine } from './fit-machine.ts';

const RATE = 100;
const COPY_RATE = 12;
const UNITS = 16;
const MIB = 2 ** 20;

const reading = (path: string, rate: number): SiteSamples => ({
  benchmark: 'device-memory',
  id: path,
  operations: [],
  reading: path,
  readingBytes: rate * 1e6,
  restartNs: [1e6],
  samplesNs: [[1e6]],
});

const site = (
  benchmark: string,
  id: string,
  operation: SiteSamples['operations'][0],
  ns: number,
): SiteSamples => ({
  benchmark,
  id,
  operations: [operation],
  restartNs: [ns],
  samplesNs: [[ns]],
});

const sizes = Array.from({ length: 10 }, (_, at) => 4096 * 4 ** at);
const samples: Samples = {
  format: 'kvtier.samples/1',
  machine: {
    backend: 'cpu',
    name: 'a processor',
    driver: '',
    runtime: 'C++',
    units: UNITS,
    l2Bytes: 300 * MIB,
    hbmBytes: 2 ** 37,
    dramBytes: 2 ** 37,
    date: '2026-11-22',
    emulated: [],
  },
  senses: [],
  sites: [
    reading('hardware.accelerator.hbm.achievedBytesPerNs', RATE),
    reading('hardware.accelerator.hbm.copyBytesPerNs', 0.9 * RATE),
    reading('hardware.host.cpu.readBytesPerNs', RATE),
    ...(['h2d', 'd2h'] as const).flatMap((way) =>
      sizes.map((size) =>
        site('host-copy', `${way} ${size}`, transferOf(way, 1, size, 'dma'), 3000 + size / COPY_RATE),
      ),
    ),
    ...[64, 1024, 16_384].flatMap((rowBytes) =>
      [512, 4096, 32_768].map((rows) =>
        site(
          'uva',
          `${rows} x ${rowBytes}`,
          gatherOf({ tier: 'dram', mode: 'uva', rows, rowBytes, regionBytes: 2 ** 28 }),
          10_000 + (rows * rowBytes) / (0.8 * RATE),
        ),
      ),
    ),
  ],
};

describe('a fit of a processor', () => {
  const base = { hardware: loadProfile('h100-sxm'), stack: loadStack() };
  const { hardware, stack } = fitMachine(samples, base, 'a-processor');
  const two = { ...hardware.accelerator.sms, value: 2 };

  it('states what the machine is and what its memory reaches', () => {
    expect(hardware.accelerator.sms.value).toBe(UNITS);
    expect(hardware.host.cpu.threads.value).toBe(UNITS);
    expect(hardware.accelerator.l2.capacityBytes.value).toBe(300 * MIB);
    expect(hardware.accelerator.memory.capacityBytes.value).toBe(2 ** 37);
    expect(hardware.accelerator.hbm.peakBytesPerNs.value).toBe(RATE);
    expect(hardware.link).toMatchObject({ kind: 'memory', h2dBytesPerNs: { value: RATE } });
    expect(hardware.accelerator.compute.fp8).toBeUndefined();
  });

  it('copies at the rate of a thread and reads at that of memory', () => {
    expect(hardware.link.engine?.h2dBytesPerNs.value).toBeCloseTo(COPY_RATE, 0);
    const machine = resolveMachine(hardware, stack);
    const bytes = 256 * MIB;
    const copied = bytes / predictNs([transferOf('h2d', 1, bytes, 'dma')], machine);
    expect(copied / COPY_RATE).toBeGreaterThan(0.9);
    expect(copied / COPY_RATE).toBeLessThan(1.1);
    // What lands stays in the cache.
    const landed = 32 * MIB;
    const rows = { rows: landed / 4096, rowBytes: 4096, regionBytes: 2 ** 28 };
    const read = landed / predictNs([gatherOf({ tier: 'dram', mode: 'uva', ...rows })], machine);
    expect(read / (0.8 * RATE)).toBeGreaterThan(0.85);
  });

  it('takes what nothing measured to be as fast as its memory, not as the base', () => {
    const some = samples.sites.filter(({ benchmark }) => benchmark !== 'uva');
    const { link } = fitMachine({ ...samples, sites: some }, base, 'a-processor').hardware;
    expect(link.uva?.bytesPerNs.value).toBe(RATE);
    expect(link.pageable?.h2dBytesPerNs.value).toBe(RATE);
  });

  it('leaves a rate at its limit no digit above it', () => {
    // Its logarithm leads back to a number one digit larger; rows read faster than memory push the rate against it.
    const rate = 33.16628284606712;
    expect(Math.exp(Math.log(rate))).toBeGreaterThan(rate);
    const sites = samples.sites.map((one) => ({
      ...one,
      readingBytes: one.reading === undefined ? undefined : rate * 1e6,
      restartNs: one.benchmark === 'uva' ? one.restartNs.map((ns) => ns / 2) : one.restartNs,
    }));
    const { link } = fitMachine({ ...samples, sites }, base, 'a-processor').hardware;
    expect(link.uva?.bytesPerNs.value).toBe(rate);
  });

  it('lets copies take cores and memory from kernels', () => {
    const machine = resolveMachine(
      { ...hardware, accelerator: { ...hardware.accelerator, sms: two } },
      stack,
    );
    const copy = transferOf('h2d', 1, 256 * MIB, 'dma');
    const kernel = scoreOf('work', 1e9, 0, 0);
    const [copyNs, kernelNs] = [copy, kernel].map((one) => predictNs([one], machine));
    const bothNs = predictNs([copy, kernel], machine);
    // One core of two, and all of both: three cores' work.
    expect(bothNs).toBeGreaterThan(kernelNs + copyNs / 2 - 1);
    expect(bothNs).toBeLessThan(kernelNs + copyNs);
  });
});
