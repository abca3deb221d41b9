/**
 * Writes a request trace in kvtier's compact form (formats/kvtier-requests.ts): the Mooncake conversation trace of
 * 3.0 MB becomes a tenth of that. Reading it back gives the same columns. Isomorphic.
 */
import { SimError } from '../../sim/error.ts';
import { REQUESTS_FORMAT, type RequestsHeader } from './formats/kvtier-requests.ts';
import type { RequestTrace } from './request-trace.ts';

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));

/** The longest unit, in whole ns, that all arrivals are multiples of. */
const timeUnit = (arrivalNs: Float64Array): number => {
  let unit = 0;
  for (const ns of arrivalNs) {
    if (!Number.isSafeInteger(ns)) {
      throw new SimError('invalid-input', `arrivalNs: expected whole ns, got ${ns}`);
    }
    unit = gcd(ns, unit);
  }
  return Math.max(1, unit);
};

/** Pairs (start, length) of consecutive ids. */
const runsOf = (ids: Int32Array): number[] => {
  const runs: number[] = [];
  for (let k = 0; k < ids.length; k++) {
    const last = runs.length - 2;
    if (last >= 0 && runs[last] + runs[last + 1] === ids[k]) runs[last + 1]++;
    else runs.push(ids[k], 1);
  }
  return runs;
};

/** Lines of the file, each without its line break. `about` says for people where the trace came from. */
export function* compactLines(
  trace: RequestTrace,
  about: { readonly source?: string; readonly licence?: string } = {},
): Generator<string> {
  const { arrivalNs, inputTokens, outputTokens, offsets, blockIds, session, thinkNs } = trace;
  const columns: RequestsHeader['columns'] = [];
  if (session !== null) columns.push('session');
  if (thinkNs !== null) columns.push('thinkNs');
  const unit = timeUnit(arrivalNs);
  const header: RequestsHeader = {
    format: REQUESTS_FORMAT,
    blockTokens: trace.blockTokens,
    timeUnitNs: unit,
    columns,
    ...about,
  };
  yield JSON.stringify(header);
  for (let r = 0; r < arrivalNs.length; r++) {
    const wait = (arrivalNs[r] - (r > 0 ? arrivalNs[r - 1] : 0)) / unit;
    const row: unknown[] = [
      wait,
      inputTokens[r],
      outputTokens[r],
      runsOf(blockIds.subarray(offsets[r], offsets[r + 1])),
    ];
    if (session !== null) row.push(session[r]);
    if (thinkNs !== null) row.push(thinkNs[r]);
    yield JSON.stringify(row);
  }
}
