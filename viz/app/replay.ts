/** Runs the experiment again inside the page. Until the decode run is linked in, it says that it cannot. */

/**
 * `experiment` as the result holds it; `traceBytes` is the trace file that the reader opened, or null when the
 * experiment makes its own. Resolves to the digest of the result; rejects with one line for the reader.
 */
export const replay = (_experiment: unknown, _traceBytes: ArrayBuffer | null): Promise<{ digest: string }> =>
  Promise.reject(new Error('not available yet'));
