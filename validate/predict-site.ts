/**
 * Time of a program of a few operations on a machine: the sum where each follows the one before it, on the fabric where
 * some run at the same time.
 */
import type { Operation } from '../sim/program/operation.ts';
import { costOf, type Machine } from '../sim/timing/cost.ts';
import { Interpreter } from '../sim/timing/interpreter.ts';
import { soloNs } from '../sim/timing/operation-cost.ts';
import { withTakenAlong } from '../sim/timing/taken-along.ts';

/** Time from the start of the first operation to the end of the last, ns. */
export const predictNs = (operations: readonly Operation[], machine: Machine): number => {
  const [first] = operations;
  const inTurn = operations.every(
    ({ stream, after }, at) => stream === first.stream || (at > 0 && after.includes(at - 1)),
  );
  if (inTurn)
    return withTakenAlong(operations).reduce((sum, operation) => sum + soloNs(costOf(operation, machine)), 0);
  const interpreter = new Interpreter(machine, (operation) => costOf(operation, machine));
  interpreter.submit({ operations }, 0);
  interpreter.finish();
  return interpreter.timeline().endNs.reduce((a, b) => Math.max(a, b), 0);
};
