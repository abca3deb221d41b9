/** Runs the experiment again inside the page, so that whoever holds the page can check its digest. */
import { replayExperiment } from '../../traces/attention/replay.ts';

/** Lets the page draw "running" before the run takes the thread. */
const nextFrame = (): Promise<void> =>
  new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));

/**
 * `experiment` as the result holds it; `traceBytes` is the trace file that the reader opened, or null when the
 * experiment makes its own. Resolves to the digest of the result; rejects with one line for the reader.
 */
export const replay = async (
  experiment: unknown,
  traceBytes: ArrayBuffer | null,
): Promise<{ digest: string }> => {
  await nextFrame();
  return { digest: replayExperiment(experiment, { traceBytes }).result.digest };
};
