/** Chosen clusters looked up by host threads in a table of descriptors, between two kernels, as RetroInfer declares it. */
import { DESCRIPTOR_WORDS } from '../../kernels/calls/cluster-table.ts';
import type { World } from '../../sim/policy/policy.ts';
import { retrievalWorks } from '../../sim/policy/wave-zones.ts';
import type { ScoreOperation } from '../../sim/program/operation.ts';
import { bindKernel } from '../execute/bind-index.ts';
import { Binding } from '../execute/binding.ts';
import { chained, emptyOperation, type Microbench, type Site } from './microbench.ts';

const KV_HEADS = 8;
const GROUP = 4;
const PASSES = 16;
/** Pages of a cluster, and clusters that there are for each that is chosen: those of the policy's defaults. */
const PAGES = 2.5;
const OF = 56;
const dimensions = { heads: KV_HEADS * GROUP, kvHeads: KV_HEADS, headDim: 128 };

const operationOf = (batch: number, retrieved: number, layer: number): ScoreOperation => {
  const rows = batch * KV_HEADS;
  const pages = Math.round(PAGES * retrieved);
  const zones = { clusters: OF * retrieved, retrieved, estimated: 0 };
  const found = { steady: 0, hits: 8 * retrieved, misses: 8 * retrieved, pages };
  const world = { kBytesPerToken: 256, vBytesPerToken: 256 } as World;
  const [work] = retrievalWorks(world, zones, found).filter(({ where }) => where === 'cpu');
  const { index, readBytes, writeBytes = {}, flops, kernels, call } = work;
  return {
    kind: 'score',
    index,
    readBytes: { dram: rows * (readBytes.dram ?? 0) },
    writeBytes: { dram: rows * (writeBytes.dram ?? 0) },
    flops,
    kernels,
    rows,
    where: 'cpu',
    ...(call === undefined ? {} : { call }),
    layer,
    stream: 'cpu',
    after: [],
  };
};

const siteOf = (batch: number, retrieved: number): Site => ({
  id: `${batch} x ${retrieved} clusters`,
  operations: [operationOf(batch, retrieved, 0), emptyOperation],
  passes: PASSES,
  options: { graph: true },
  build: (layout) => {
    const operations = Array.from({ length: PASSES }, (_, pass) => operationOf(batch, retrieved, pass));
    const binding = new Binding(operations, layout);
    operations.forEach((operation, at) => {
      binding.begin(at);
      bindKernel(binding, { dimensions, batch }, operation, false);
      binding.end();
    });
    return chained(PASSES, (pass) => binding.calls[pass], 'cpu');
  },
});

export const microbench = {
  name: 'host-kernel/cluster-table',
  number: 12,
  title: 'chosen clusters looked up by host threads',
  kernels: ['cluster-table', 'empty'],
  sites: ({ dramBytes }) =>
    [
      [1, 8],
      [1, 64],
      [1, 512],
      [8, 16],
      [8, 128],
      [32, 64],
    ]
      .filter(
        ([batch, retrieved]) => batch * KV_HEADS * OF * retrieved * 4 * DESCRIPTOR_WORDS <= dramBytes / 8,
      )
      .map(([batch, retrieved]) => siteOf(batch, retrieved)),
} satisfies Microbench;
