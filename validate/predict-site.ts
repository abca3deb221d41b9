/** Time of a program of a few operations on a machine: alone where they follow one another, on the fabric where not. */
import type { Operation } from '../sim/program/operation.ts';
import { costOf, type Machine } from '../sim/timing/cost.ts';
import { Interpreter } from '../sim/timing/interpreter.ts';
import { soloNs } from '../sim/timing/operation-cost.ts';

/** Time from the start of the first operation to the end of the last, ns. */
export const predictNs = (operations: readonly Operation[], machine: Machine): number => {
  const [first] = operations;
  if (operations.every(({ stream }) => stream === first.stream))
    return operations.reduce((sum, operation) => sum + soloNs(costOf(operation, machine)), 0);
  const interpreter = new Interpreter(machine, (operation) => costOf(operation, machine));
  interpreter.submit({ operations }, 0);
  interpreter.finish();
  return interpreter.timeline().endNs.reduce((a, b) => Math.max(a, b), 0);
};
