/** A fit recovers a machine from times that its own laws made, noise and an outlier included, and says so honestly. */
import { describe, expect, it } from 'vitest';
import { createRandom } from '../../sim/engine/random.ts';
import { loadProfile, loadStack } from '../../sim/hardware/load.ts';
import type { Operation } from '../../sim/program/operation.ts';
import { resolveMachine } from '../../sim/timing/cost.ts';
import { attendOf, gatherOf } from '../../sim/timing/cost-cases.ts';
import { predictNs } from '../predict-site.ts';
import type { SiteSamples } from '../samples.ts';
import { fitMachine, isHeldOut } from './fit-machine.ts';
import { samplesOf } from './sample-cases.ts';

const copyOf = (rows: number, rowBytes: number, mode: 'dma' | 'dma-batch'): Operation => ({
  kind: 'fetch',
  from: 'dram',
  to: 'hbm',
  rows,
  rowBytes,
  mode,
  layer: 0,
  stream: 'h2d',
  after: [],
});

const sitesOf = (machine: ReturnType<typeof resolveMachine>, noise: number): SiteSamples[] => {
  const random = createRandom(7, 'noise');
  const site = (benchmark: string, id: string, operation: Operation): SiteSamples => {
    const ns = predictNs([operation], machine);
    const restartNs = [0, 1, 2].map(() => ns * (1 + noise * (2 * random.uniform() - 1)));
    return { benchmark, id, operations: [operation], restartNs, samplesNs: restartNs.map((x) => [x]) };
  };
  const sizes = Array.from({ length: 12 }, (_, i) => 4096 * 3 ** i);
  return [
    ...sizes.map((size) => site('host-copy', `h2d ${size}`, copyOf(1, size, 'dma'))),
    ...[16, 256, 1024].flatMap((rows) =>
      [512, 8192, 131_072].map((size) => site('many-copies', `${rows} x ${size}`, copyOf(rows, size, 'dma'))),
    ),
    ...[16, 256, 1024].map((rows) => site('batched-copies', `${rows}`, copyOf(rows, 4096, 'dma-batch'))),
    ...[64, 128, 512, 4096].flatMap((rowBytes) =>
      [512, 4096, 65_536].map((rows) =>
        site('gather', `${rows} x ${rowBytes}`, gatherOf({ tier: 'hbm', mode: 'uva', rows, rowBytes })),
      ),
    ),
    ...[1, 4, 16].flatMap((batch) =>
      [4096, 32_768, 131_072].map((context) =>
        site(
          'attend',
          `${batch} x ${context}`,
          attendOf({ batch, context, heads: 32, kvHeads: 8, headDim: 128, elementBytes: 2 }),
        ),
      ),
    ),
  ];
};

describe('fitMachine', () => {
  const truth = resolveMachine(loadProfile('a100-80-sxm'), loadStack());
  const base = { hardware: loadProfile('h100-sxm'), stack: loadStack() };

  it('recovers a machine from another one’s profile', () => {
    const sites = sitesOf(truth, 0.01);
    const fitted = fitMachine(samplesOf(sites), base, 'a-card');
    expect(sites.filter(isHeldOut).length).toBeGreaterThan(8);
    for (const { heldOut } of fitted.laws) expect(heldOut?.mape ?? 0).toBeLessThan(0.05);
    expect(fitted.hardware.name).toBe('a-card');
    expect(fitted.hardware.link.h2dBytesPerNs.status).toBe('fitted');
    expect(Math.abs(fitted.hardware.link.h2dBytesPerNs.value / truth.link.h2d.bytesPerNs - 1)).toBeLessThan(
      0.02,
    );
    expect(fitted.noise?.mape).toBeLessThan(0.02);
    expect(base.hardware.link.h2dBytesPerNs.status).toBe('measured');
  });

  it('is not moved by an outlier', () => {
    const sites = sitesOf(truth, 0);
    const kept = sites.filter((site) => site.benchmark === 'host-copy' && !isHeldOut(site));
    const at = sites.indexOf(kept[kept.length >> 1]);
    sites[at] = { ...sites[at], restartNs: sites[at].restartNs.map((ns) => 3 * ns) };
    const { laws } = fitMachine(samplesOf(sites), base, 'a-card');
    expect(laws[0].heldOut?.mape).toBeLessThan(0.03);
  });
});
