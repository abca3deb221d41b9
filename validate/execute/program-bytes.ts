/** What a program says that it moves, by what the bytes cross: the side of the comparison that the simulator stands for. */
import { bytesOf } from '../../sim/program/bytes.ts';
import type { Operation } from '../../sim/program/operation.ts';
import { noBytes, type TouchedBytes } from './binding.ts';

/** Adds one operation. HBM bytes that a copy engine reads or writes are counted at the link alone. */
const addOperation = (total: TouchedBytes, operation: Operation): void => {
  const { read, write } = bytesOf(operation);
  if (operation.kind === 'fetch' || operation.kind === 'spill') {
    const direction = operation.to === 'hbm' ? 'h2d' : 'd2h';
    total[direction] += operation.rows * operation.rowBytes;
    return;
  }
  const onCpu = (operation.kind === 'attend' || operation.kind === 'score') && operation.where === 'cpu';
  total.hbm += (read.hbm ?? 0) + (write.hbm ?? 0);
  total[onCpu ? 'dram' : 'h2d'] += (read.dram ?? 0) + (write.dram ?? 0);
};

export const programBytes = (operations: readonly Operation[]): TouchedBytes => {
  const total = noBytes();
  for (const operation of operations) addOperation(total, operation);
  return total;
};

export const sumOfBytes = ({ hbm, h2d, d2h, dram }: TouchedBytes): number => hbm + h2d + d2h + dram;
