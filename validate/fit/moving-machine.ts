/**
 * The machine of a description whose numbers a fit moves thousands of times: what the law does not touch (the tables, and
 * the laws of all other kernels) is resolved once. Promise: the same numbers as resolveMachine's.
 */
import { type Machine, resolveMachine } from '../../sim/timing/cost.ts';
import { kernelsOf } from '../../sim/timing/trust.ts';
import type { MachineDescription } from '../overlay.ts';

/** The kernels, by name, with a number at one of the paths. */
const touchedBy = <Law>(
  paths: readonly string[],
  under: string,
  kernels: Readonly<Record<string, Law>> = {},
): Record<string, Law> =>
  Object.fromEntries(
    Object.entries(kernels).filter(([name]) => paths.some((path) => path.startsWith(`${under}[${name}].`))),
  );

/** Resolves the description as it stands at each call, if only numbers at `paths` have changed since. */
export const movingMachine = (
  { hardware, stack }: MachineDescription,
  paths: readonly string[],
): (() => Machine) => {
  const whole = resolveMachine(hardware, stack);
  const kernels = touchedBy(paths, 'stack.kernels', stack.kernels);
  const hostKernels = touchedBy(paths, 'stack.hostKernels', stack.hostKernels);
  const movesKernelsAlone = paths.every((path) => /^stack\.(?:kernels|hostKernels)\[/.test(path));
  const rest = { ...stack, kernels: {}, hostKernels: {}, utilisation: {} };
  return () => ({
    ...(movesKernelsAlone ? whole : resolveMachine(hardware, rest)),
    kernels: { ...whole.kernels, ...kernelsOf(kernels) },
    hostKernels: { ...whole.hostKernels, ...kernelsOf(hostKernels) },
    utilisation: whole.utilisation,
  });
};
