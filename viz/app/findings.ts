/** One sentence a figure: what a reader should see in it. Pure text from the result; empty comparisons say so. */
import type { CompareResult, PolicyResult } from '../../sim/result.ts';
import {
  boundaryBytes,
  boundaryKeys,
  type Flow,
  type LaneTime,
  massRecall,
  type StepRows,
} from './analysis.ts';
import {
  boundaryLabel,
  formatBytes,
  formatNs,
  formatNumber,
  formatRatio,
  plural,
  resourceLabel,
} from './format.ts';

/** The share of attention mass that a policy should keep to be called close to full attention in a caption. */
const keepRatio = 0.95;

const fastest = (policies: readonly PolicyResult[]): PolicyResult | undefined =>
  policies.reduce<PolicyResult | undefined>(
    (best, policy) => (best === undefined || policy.stepNs.mean < best.stepNs.mean ? policy : best),
    undefined,
  );

const best = (policies: readonly PolicyResult[]): PolicyResult =>
  policies.reduce((a, b) =>
    massRecall(b) > massRecall(a) || (massRecall(b) === massRecall(a) && b.stepNs.mean < a.stepNs.mean)
      ? b
      : a,
  );

/** The fastest policy that fits and keeps nearly all attention mass; undefined when none does or none was measured. */
export const winnerOf = ({ policies }: CompareResult): PolicyResult | undefined =>
  fastest(policies.filter((policy) => policy.fits && massRecall(policy) >= keepRatio));

/** "…, 1.43 times as fast as full (100 %)": against the quickest of those that keep the most. */
const timesFaster = (policy: PolicyResult, than: PolicyResult): string => {
  const ratio = than.stepNs.mean / policy.stepNs.mean;
  return ratio >= 1.01
    ? `, ${formatNumber(ratio)} times as fast as ${than.policy} (${formatRatio(massRecall(than))})`
    : '';
};

/** Time against quality: the fastest policy that keeps nearly all attention mass. */
export const scatterFinding = (result: CompareResult): string => {
  const fitting = result.policies.filter((policy) => policy.fits);
  if (fitting.length === 0) return 'No policy fits the memory of this machine.';
  const measured = fitting.filter((policy) => policy.quality !== null);
  if (measured.length === 0) {
    return `${fastest(fitting)?.policy} is the fastest; the trace does not allow quality to be measured.`;
  }
  const most = best(measured);
  const winner = winnerOf(result);
  if (winner === undefined) {
    return `No policy that fits keeps ${keepRatio * 100} % of the attention mass; ${most.policy} comes closest with ${formatRatio(massRecall(most))} at ${formatNs(most.stepNs.mean)} a step.`;
  }
  return `${winner.policy} is the fastest to keep at least ${keepRatio * 100} % of the attention mass: ${formatNs(winner.stepNs.mean)} a step with ${formatRatio(massRecall(winner))} kept${timesFaster(winner, most)}.`;
};

/** The table: the spread of host-link traffic, and who does not fit. */
export const tableFinding = ({ policies }: CompareResult): string => {
  const misfits = policies.filter((policy) => !policy.fits);
  const [inward] = boundaryKeys(policies);
  const moved = policies.map((policy) => boundaryBytes(policy, inward));
  const most = Math.max(0, ...moved);
  const traffic =
    most === 0
      ? 'no policy brings KV over the host link'
      : `KV brought over the host link ranges from ${formatBytes(Math.min(...moved))} to ${formatBytes(most)} a step`;
  const fit =
    misfits.length === 0
      ? 'all of them fit'
      : `${misfits.map((policy) => policy.policy).join(', ')} ${misfits.length === 1 ? 'does' : 'do'} not fit`;
  return `${plural(policies.length, 'policy', 'policies')}; ${traffic}; ${fit}.`;
};

/** The flow picture of one policy. */
export const flowFinding = (policy: PolicyResult): string => {
  const inBytes = boundaryBytes(policy, 'dram->hbm');
  const hbm = policy.traffic.hbm;
  const readBytes = hbm !== undefined && 'readBytesPerStep' in hbm ? hbm.readBytesPerStep : 0;
  const read = `reads ${formatBytes(readBytes)} of KV and index from HBM`;
  if (inBytes === 0) return `In a step, ${policy.policy} ${read} and brings nothing in from DRAM.`;
  return `In a step, ${policy.policy} brings ${formatBytes(inBytes)} in from DRAM and ${read}.`;
};

const laneWords: Readonly<Record<string, string>> = {
  compute: 'compute',
  h2d: 'the copies into the GPU',
  d2h: 'the copies out of the GPU',
  cpu: 'the host CPU',
  nvme: 'storage',
};

/** The timeline of one step: how long, what waits, what the whole run is bound by. */
export const timelineFinding = (policy: PolicyResult, step: StepRows, lanes: readonly LaneTime[]): string => {
  const wholeNs = step.toNs - step.fromNs;
  const copies = lanes.filter((lane) => lane.stream !== 'compute' && lane.busyNs > 0);
  const exposed = copies.reduce<LaneTime | undefined>(
    (most, lane) => (most === undefined || lane.exposedNs > most.exposedNs ? lane : most),
    undefined,
  );
  const overlap =
    exposed === undefined
      ? 'only compute works'
      : exposed.exposedNs < 0.005 * wholeNs
        ? 'transfers hide behind compute'
        : `the GPU waits ${formatNs(exposed.exposedNs)} (${formatRatio(exposed.exposedNs / wholeNs)}) for ${laneWords[exposed.stream] ?? exposed.stream}`;
  const name = step.step < 0 ? 'Prefill' : `Step ${step.step}`;
  return `${name} of ${policy.policy} takes ${formatNs(wholeNs)}: ${overlap}. Over the run, ${formatRatio(policy.bound.share)} of the critical path is ${resourceLabel(policy.bound.resource)}.`;
};

/** What flows where, in words: "DRAM → HBM", "HBM → Compute, weights". */
export const flowLabel = ({ from, to, what }: Flow): string =>
  `${boundaryLabel(`${from}->${to}`)}${what === 'weights' ? ', weights' : ''}`;
