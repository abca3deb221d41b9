/** Runs the selection check of a policy on one KV head's real rows: mean Jaccard of kernels against the policy. */
import type { Backend } from '../../kernels/backend.ts';
import { mean } from '../../sim/engine/stats.ts';
import type { RealRows } from '../execute/verify.ts';
import type { Workload } from '../execute/workload.ts';
import { selection as bounds } from './bounds.ts';
import { selection as centroids } from './centroids.ts';
import { jaccard, roundedToBf16, type SelectionCheck, SelectionDevice } from './check.ts';
import { selection as codes } from './codes.ts';
import { selection as collisions } from './collisions.ts';
import { selection as hashes } from './hashes.ts';

const CHECKS: readonly SelectionCheck[] = [bounds, centroids, codes, collisions, hashes];

/** The check of a policy, by its name without parameters; undefined where none of its scorers has kernels. */
const checkOf = (label: string): SelectionCheck | undefined => {
  const name = label.split(':')[0];
  return CHECKS.find(({ policies }) => policies.includes(name));
};

/** Mean Jaccard of the sets; null where the policy selects nothing or the backend lacks a kernel. */
export const checkSelection = async (
  backend: Backend,
  { policy, program, dimensions }: Workload,
  rows: RealRows,
): Promise<number | null> => {
  const check = checkOf(policy);
  const selects = program.operations.flatMap((operation) => (operation.kind === 'select' ? [operation] : []));
  if (check === undefined || selects.length === 0) return null;
  if (check.kernels.some((kernel) => !backend.device.kernels.includes(kernel))) return null;
  // The first selection ranks what the scorer scores; the smallest k of a layer is what is taken.
  const [{ of }] = selects;
  const k = Math.min(...selects.map((select) => select.k));
  const head = {
    keys: roundedToBf16(rows.keys),
    queries: roundedToBf16(rows.queries),
    tokens: program.tokens,
    group: dimensions.heads / dimensions.kvHeads,
    headDim: dimensions.headDim,
  };
  const device = new SelectionDevice(backend);
  try {
    const pairs = await check.run(device, head, { of, k });
    return mean(Float64Array.from(pairs, (pair) => jaccard(pair.byKernel, pair.byPolicy)));
  } finally {
    device.free();
  }
};
