/**
 * The cost model: time and demands of one operation on one machine, for every kind of operation.
 * Utilisation is what is fitted and carried over, never latency; each cost says how far it can be trusted.
 */
import type { Operation } from '../program/operation.ts';
import { attendCost } from './cost-attend.ts';
import { appendCost, codecCost, mergeCost, scoreCost } from './cost-kernels.ts';
import type { Machine } from './cost-machine.ts';
import { denseCost } from './cost-products.ts';
import { selectCost } from './cost-select.ts';
import { transferCost } from './cost-transfer.ts';
import type { OperationCost } from './operation-cost.ts';

export { type Machine, resolveMachine } from './cost-machine.ts';

const FREE: OperationCost = {
  fixedNs: 0,
  amount: 0,
  soloRatePerNs: 1,
  demands: [],
  boundBy: 'latency',
  intervalRatio: [1, 1],
  domain: 'calibrated',
};

/** Cost of an operation. Throws SimError 'not-supported' for a transfer that no link of the machine carries. */
export const costOf = (operation: Operation, machine: Machine): OperationCost => {
  switch (operation.kind) {
    case 'fetch':
    case 'spill':
      return transferCost(machine, operation);
    case 'attend':
      return attendCost(machine, operation);
    case 'dense':
      return denseCost(machine, operation);
    case 'score':
      return scoreCost(machine, operation);
    case 'select':
      return selectCost(machine, operation);
    case 'append':
      return appendCost(machine, operation);
    case 'merge':
      return mergeCost(machine, operation);
    case 'encode':
    case 'decode':
      return codecCost(machine, operation);
    case 'wait':
      return FREE;
    default: {
      const never: never = operation;
      return never;
    }
  }
};
