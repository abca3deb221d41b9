/** What the engine says of a program alone on a machine: the time of the whole step, and of each operation. */
import type { Operation } from '../../sim/program/operation.ts';
import { costOf, type Machine } from '../../sim/timing/cost.ts';
import { Interpreter } from '../../sim/timing/interpreter.ts';

export interface PredictedStep {
  /** Until the last operation of any stream has ended, ns. */
  readonly totalNs: number;
  /** Start and end of each operation, ns. */
  readonly startNs: Float64Array;
  readonly endNs: Float64Array;
  /** True where no more than a tenth of the critical path lies outside what its laws were fitted on. */
  readonly calibrated: boolean;
}

const EXTRAPOLATED_SHARE = 0.1;

export const predictStep = (operations: readonly Operation[], machine: Machine): PredictedStep => {
  const interpreter = new Interpreter(machine, (operation) => costOf(operation, machine));
  interpreter.submit({ operations }, 0);
  interpreter.finish();
  const { startNs, endNs } = interpreter.timeline();
  const totalNs = endNs.reduce((a, b) => Math.max(a, b), 0);
  const { extrapolatedNs } = interpreter.criticalPath(-1, 0);
  return {
    totalNs,
    startNs: Float64Array.from(startNs),
    endNs: Float64Array.from(endNs),
    calibrated: extrapolatedNs <= EXTRAPOLATED_SHARE * totalNs,
  };
};
