/**
 * Calls of a step as they run one behind the other: attention takes the new rows of an append right before it along, so
 * that no kernel with a start and an end of its own stands between it and what came before (calls/attend.ts).
 */
import type { Call, Ref } from '../../kernels/calls.ts';
import { formatOf } from '../../kernels/formats.ts';

const SAME = ['rows', 'headDim', 'pageTokens', 'pageStride'] as const;

const samePlace = (a: Ref, b: Ref): boolean => a.buffer === b.buffer && a.offset === b.offset;

/** Whether a call can take along what `append` does right before it. */
const takesAlong = (append: Call, next: Call | undefined): next is Call =>
  append.kernel === 'append' &&
  next?.kernel === 'attend' &&
  next.stream === append.stream &&
  next.refs.slots === undefined &&
  formatOf(next.ints.format).element !== 'code' &&
  samePlace(next.refs.pool, append.refs.pool) &&
  SAME.every((name) => next.ints[name] === append.ints[name]) &&
  // What attention waits for besides, the append does not.
  next.after.every((earlier) => append.after.includes(earlier));

/** The list with such pairs as one call each, unless another stream waits for the append alone. */
export const joinedCalls = (calls: readonly Call[]): readonly Call[] => {
  const awaited = new Set(calls.flatMap(({ after }) => after));
  const joined: Call[] = [];
  /** Where each call has gone. */
  const places: number[] = [];
  for (let at = 0; at < calls.length; at++) {
    const call = calls[at];
    const next = calls[at + 1];
    const after = call.after.map((earlier) => places[earlier]);
    places.push(joined.length);
    if (!awaited.has(at) && takesAlong(call, next)) {
      const { k, v, slots } = call.refs;
      joined.push({ ...next, after, refs: { ...next.refs, k, v, slots } });
      places.push(joined.length - 1);
      at++;
    } else joined.push({ ...call, after });
  }
  return joined;
};
