/**
 * Launches by a CPU that runs ahead of the GPU: it launches a step's operations one after another, each in its own time,
 * and waits only where it must see what the GPU has chosen before it can name rows. Holds when each was launched.
 */
import type { Operation } from '../program/operation.ts';
import type { OperationCost } from './operation-cost.ts';

/** A stretch of launches without a wait: from the begin of a step, or from where the CPU has seen a choice. */
interface Stretch {
  /** The stretch before, within the step. */
  readonly before: Stretch | null;
  /** What has ended when it begins: the last awaited operation of each stream; -1 = none. */
  readonly seen: readonly number[];
  /** Time of the launches before it in the stretch before it, and of the launch that it begins with. */
  readonly lengthNs: number;
  readonly firstNs: number;
  /** When it begins, once that is known. */
  beganNs: number;
}

interface Launch {
  readonly stretch: Stretch;
  /** From the begin of its stretch. */
  readonly ns: number;
}

export class Launches {
  private readonly none: readonly number[];
  private readonly launches = new Map<number, Launch>();
  private step = Number.NaN;
  private stretch: Stretch;
  private lengthNs = 0;

  constructor(streams: number) {
    this.none = Array.from({ length: streams }, () => -1);
    this.stretch = this.begin(null, this.none, 0);
  }

  /**
   * Adds the launch of an operation; `streamOf`: by operation, where it runs. Returns what must have ended before the
   * operation can start, since the CPU waited for it; null where nothing need be, or nothing launches ahead.
   */
  add(
    id: number,
    step: number,
    { hostNs }: OperationCost,
    operation: Operation,
    streamOf: ArrayLike<number>,
  ): readonly number[] | null {
    if (hostNs === undefined) return null;
    if (step !== this.step) {
      this.step = step;
      this.stretch = this.begin(null, this.none, 0);
    }
    const { stretch } = this;
    const awaits = operation.kind === 'fetch' && operation.awaitsChoice === true;
    // What awaits a choice has its time from there on in its own fixed part.
    if (!awaits) this.lengthNs += hostNs;
    this.launches.set(id, { stretch, ns: this.lengthNs });
    if (awaits) {
      const seen = [...stretch.seen];
      for (const other of operation.after) seen[streamOf[other]] = Math.max(seen[streamOf[other]], other);
      this.stretch = this.begin(stretch, seen, hostNs);
    }
    return stretch.before === null ? null : stretch.seen.filter((other) => other >= 0);
  }

  /** When an operation is launched, in a step that the CPU begins at `stepNs`; all that it must see has ended by now. */
  launchedNs(id: number, stepNs: number, endNs: ArrayLike<number>): number {
    const launch = this.launches.get(id);
    return launch === undefined ? stepNs : this.beganNs(launch.stretch, stepNs, endNs) + launch.ns;
  }

  private begin(before: Stretch | null, seen: readonly number[], firstNs: number): Stretch {
    const stretch = { before, seen, lengthNs: this.lengthNs, firstNs, beganNs: Number.NaN };
    this.lengthNs = 0;
    return stretch;
  }

  private beganNs(stretch: Stretch, stepNs: number, endNs: ArrayLike<number>): number {
    if (Number.isNaN(stretch.beganNs)) {
      const { before, seen, lengthNs, firstNs } = stretch;
      let fromNs = before === null ? stepNs : this.beganNs(before, stepNs, endNs) + lengthNs;
      for (const other of seen) if (other >= 0) fromNs = Math.max(fromNs, endNs[other]);
      stretch.beganNs = fromNs + firstNs;
    }
    return stretch.beganNs;
  }
}
