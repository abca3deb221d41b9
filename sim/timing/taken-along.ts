/**
 * Appends that the attention right behind them can take along: its kernel writes the new rows before it reads, so that a
 * step has no kernel of its own for them. Stacks that do so have a law of it (`append.joined`, fitted by calibration).
 */
import type { AppendOperation, AttendOperation, Operation } from '../program/operation.ts';

/** One token a row into plain KV that the attention reads. */
const readsNew = ({ where, queries, coded = [] }: AttendOperation): boolean =>
  where === 'gpu' && queries === 1 && coded.reduce((rest, { share }) => rest - share, 1) > 1e-9;

const takes = (
  append: AppendOperation,
  next: Operation | undefined,
  onItsStream: (id: number) => boolean,
): boolean =>
  next?.kind === 'attend' &&
  next.stream === append.stream &&
  next.layer === append.layer &&
  readsNew(next) &&
  // What attention waits for besides, the append does not.
  next.after.every((id) => append.after.includes(id) || onItsStream(id));

/** The operations of a program, with what is taken along marked; `firstId` = id of the first, as `after` counts. */
export const withTakenAlong = (operations: readonly Operation[], firstId = 0): readonly Operation[] => {
  const streamOf = (id: number) => operations[id - firstId]?.stream;
  const awaited = new Set(
    operations.flatMap(({ stream, after }) => after.filter((id) => streamOf(id) !== stream)),
  );
  return operations.map((operation, at) =>
    operation.kind === 'append' &&
    !awaited.has(firstId + at) &&
    takes(operation, operations[at + 1], (id) => streamOf(id) === operation.stream)
      ? { ...operation, isTakenAlong: true }
      : operation,
  );
};
