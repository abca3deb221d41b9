/**
 * `npm run bench:kernels -- [--backend cuda|cpu] [--kernels a,b] [--json]`: time of each site, GB/s, and the share of the
 * bandwidth of the faster of two copies (bytes read and written) that were measured just before, on the same machine.
 */
import { parseArgs } from 'node:util';
import type { Backend } from '../backend.ts';
import { COPY_MODES } from '../calls.ts';
import { load } from '../load.ts';
import { backendOf, kernelsOf, runTool } from '../tool-flags.ts';
import { bench as attendBench } from './attend.ts';
import { decodeBench, encodeBench } from './codecs.ts';
import { bench as gemmBench } from './gemm.ts';
import { searchBenches } from './searches.ts';
import { callOf, type KernelBench, memoryOf, rotations, type Site } from './site.ts';

const BENCHES: readonly KernelBench[] = [attendBench, decodeBench, encodeBench, gemmBench, ...searchBenches];
const REPEATS = 20;
/** Calls of a list on a GPU, at least: they share what a list's launch and its two events take (9 us on an H100). */
const LEAST_CALLS = 8;
/** A CPU is given sites of this size at most, so that the run ends in seconds. */
const CPU_BYTES = 2 ** 29;

const median = (values: Float64Array): number => values.toSorted()[values.length >> 1];

/** Time of one call, ns: the calls of a site take turns. */
const timeOf = async (backend: Backend, site: Site): Promise<number> => {
  const memory = memoryOf(backend);
  try {
    const turn = await site.build(memory);
    const turns = backend.name === 'cuda' ? Math.ceil(LEAST_CALLS / turn.length) : 1;
    const calls = Array.from({ length: turns }, () => turn).flat();
    const { totalNs } = await backend.run(calls, { warmups: 3, repeats: REPEATS, graph: true });
    return median(totalNs) / calls.length;
  } finally {
    memory.free();
  }
};

/** A large copy by the copy engine and by a kernel: either can be the slower one (an H100's at 1 GiB by a fifth). */
const copySite = (backend: Backend, mode: 'dma' | 'kernel'): Site => {
  const bytes = backend.name === 'cuda' ? 2 ** 30 : 2 ** 26;
  return {
    label: 'copy',
    bytes: 2 * bytes,
    footprint: 2 * bytes * rotations(backend, bytes),
    async build(memory) {
      const [source, target] = [await memory.fill(bytes, 'bytes'), await memory.fill(bytes, 'poison')];
      const ints = {
        count: 1,
        bytes,
        sourceStride: bytes,
        targetStride: bytes,
        mode: COPY_MODES.indexOf(mode),
      };
      return [callOf('copy', { source, target }, ints)];
    },
  };
};

const readFlags = () => {
  const { values } = parseArgs({
    options: {
      backend: { type: 'string' },
      kernels: { type: 'string' },
      json: { type: 'boolean', default: false },
    },
  });
  const { backend, kernels, json } = values;
  return {
    json,
    kernels: kernelsOf(kernels),
    backend: backend === undefined ? undefined : backendOf(backend),
  };
};

const main = async (): Promise<boolean> => {
  const flags = readFlags();
  const { backend, tried } = await load(flags.backend);
  for (const { kind, reason } of tried) process.stderr.write(`not ${kind}: ${reason}\n`);
  let ceiling = 0;
  for (const mode of ['dma', 'kernel'] as const) {
    const copy = copySite(backend, mode);
    ceiling = Math.max(ceiling, copy.bytes / (await timeOf(backend, copy)));
  }
  const say = (text: string): boolean => flags.json || process.stdout.write(`${text}\n`);
  say(`${backend.device.name}: copy ${ceiling.toFixed(1)} GB/s`);
  const rows = [];
  const fits = backend.name === 'cuda' ? backend.device.hbmBytes * 0.9 : CPU_BYTES;
  for (const { kernel, sites } of BENCHES) {
    if (!flags.kernels.includes(kernel) || !backend.device.kernels.includes(kernel)) continue;
    for (const site of sites(backend).filter(({ footprint }) => footprint <= fits)) {
      const timeNs = await timeOf(backend, site);
      const rate = site.bytes / timeNs;
      rows.push({
        kernel,
        site: site.label,
        bytes: site.bytes,
        timeNs,
        rateBytesPerNs: rate,
        ratio: rate / ceiling,
      });
      const cells = [(timeNs / 1000).toFixed(1).padStart(10), rate.toFixed(0).padStart(6)];
      say(
        `${kernel.padEnd(13)} ${site.label.padEnd(60)} ${cells.join(' us ')} GB/s ${(rate / ceiling).toFixed(2)}`,
      );
    }
  }
  if (flags.json)
    process.stdout.write(
      `${JSON.stringify({ device: backend.device.name, copyBytesPerNs: ceiling, rows })}\n`,
    );
  backend.close();
  return true;
};

await runTool(main);
