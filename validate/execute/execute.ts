/**
 * Runs bound steps on a backend: buffers for all of them at once, tables written per step, the whole list timed (as a
 * graph where every call of it can be recorded, calls joined where they can be) and then every call by itself.
 */
import type { Backend, RunOptions } from '../../kernels/backend.ts';
import type { Call } from '../../kernels/calls.ts';
import { quantiles } from '../../sim/engine/stats.ts';
import type { BoundStep } from './bind.ts';
import { withRefs } from './binding.ts';
import { joinedCalls } from './joined.ts';
import { AREA_NAMES, type AreaName, areaOf, imageOf, Memory } from './memory.ts';

export interface Timing {
  /** One value a repeat, ns. */
  readonly totalNs: readonly number[];
  /** Medians over repeats of each operation's start and end, from the step's start, ns; calls timed one by one. */
  readonly operationNs: readonly { readonly at: number; readonly startNs: number; readonly endNs: number }[];
  readonly graph: boolean;
}

/** Bytes of each area that the largest of some steps needs. */
const areaSizes = (steps: readonly BoundStep[]): Readonly<Record<AreaName, number>> =>
  Object.fromEntries(
    AREA_NAMES.map((name) => [name, Math.max(0, ...steps.map(({ binding }) => binding.layout.sizes[name]))]),
  ) as Record<AreaName, number>;

export const allocateFor = async (
  backend: Backend,
  steps: readonly BoundStep[],
  seed: number,
): Promise<Memory> => await Memory.allocate(backend, areaSizes(steps), seed);

/** Tables are written in pieces of up to this size, larger ones each by itself. */
const IMAGE_BYTES = 2 ** 26;

/** Writes the page tables and row lists of a step. */
export const writeTables = async (memory: Memory, { binding }: BoundStep): Promise<void> => {
  for (const name of ['tables', 'hostTables'] as const) {
    const writes = binding.layout.writes.filter(({ ref }) => areaOf(ref) === name);
    for (let first = 0, last = 0; first < writes.length; first = last) {
      const { buffer, offset } = writes[first].ref;
      const isNear = ({ ref, words }: (typeof writes)[number]): boolean =>
        ref.offset + 4 * words - offset <= IMAGE_BYTES;
      last = first + 1;
      while (last < writes.length && isNear(writes[last])) last++;
      await memory.write({ buffer, offset }, imageOf(writes.slice(first, last)));
    }
  }
};

const realCalls = (memory: Memory, { binding }: BoundStep): readonly Call[] =>
  binding.calls.map((call) => withRefs(call, (ref) => memory.real(ref)));

/** The calls of a step that is run as a whole. */
export const stepCalls = (memory: Memory, step: BoundStep): readonly Call[] =>
  joinedCalls(realCalls(memory, step));

/** Runs a step once, nothing before and nothing after. */
export const runOnce = async (backend: Backend, memory: Memory, step: BoundStep): Promise<Timing> => {
  const { totalNs, graph } = await backend.run(stepCalls(memory, step), { warmups: 0, repeats: 1 });
  return { totalNs: [...totalNs], operationNs: [], graph };
};

/** Repeats take about this long together, unless there are fewer than the least. */
const ROUND_NS = 1e8;
const LEAST_REPEATS = 3;
/**
 * Between repeats so many caches' bytes of other memory pass through the cache: in a model, weights and other requests
 * pass between two visits of a layer's KV, so what the last step left there is gone. A processor's takes a while, once.
 */
const FLUSHED_CACHES = { cuda: 2, cpu: 1, reference: 1 };

/** Times a step whose tables are written; calls one by one unless `perCall` is false. Throws KernelError when a call fails. */
export const timeStep = async (
  backend: Backend,
  memory: Memory,
  step: BoundStep,
  { warmups = 3, repeats = 10, graph = true, perCall = true }: RunOptions,
): Promise<Timing> => {
  const joined = stepCalls(memory, step);
  const flushBytes = FLUSHED_CACHES[backend.name] * backend.device.l2Bytes;
  const [firstNs] = (await backend.run(joined, { warmups, repeats: 1, graph, flushBytes })).totalNs;
  // A long step needs fewer repeats, and has less noise.
  const affordable = Math.min(repeats, Math.max(LEAST_REPEATS, Math.ceil(ROUND_NS / firstNs)));
  const whole = await backend.run(joined, { warmups: 0, repeats: affordable, graph, flushBytes });
  if (!perCall) return { totalNs: [...whole.totalNs], operationNs: [], graph: whole.graph };
  const calls = realCalls(memory, step);
  const repeatsApart = Math.min(3, affordable);
  const apart = await backend.run(calls, { warmups: 1, repeats: repeatsApart, perCall: true, flushBytes });
  const { startNs, endNs } = apart;
  const rows = endNs.length / calls.length;
  const over = (column: Float64Array, call: number): number =>
    quantiles(
      Float64Array.from({ length: rows }, (_, row) => column[row * calls.length + call]),
      [0.5],
    )[0];
  const spans = new Map<number, { startNs: number; endNs: number }>();
  step.binding.operationOf.forEach((at, call) => {
    const [start, end] = [over(startNs, call), over(endNs, call)];
    const span = spans.get(at) ?? { startNs: start, endNs: end };
    spans.set(at, { startNs: Math.min(span.startNs, start), endNs: Math.max(span.endNs, end) });
  });
  return {
    totalNs: [...whole.totalNs],
    operationNs: [...spans].map(([at, span]) => ({ at, ...span })),
    graph: whole.graph,
  };
};
