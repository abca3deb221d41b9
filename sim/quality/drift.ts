/**
 * Recall by decode step: an index or a choice made from the prompt ages as generation moves on, which a mean over the run
 * hides (ParisKV, arXiv 2602.07721, measures recall@100 over 10K generated tokens).
 */

/** Equal stretches of the run that are reported. */
const STRETCHES = 8;

export interface DriftPoint {
  /** First decode step of the stretch. */
  readonly step: number;
  readonly massRecall: number;
  readonly recallAt100: number;
}

export class Drift {
  private readonly mass: number[] = [];
  private readonly top: number[] = [];
  private readonly counts: number[] = [];

  add(step: number, massRecall: number, recallAt100: number): void {
    this.mass[step] = (this.mass[step] ?? 0) + massRecall;
    this.top[step] = (this.top[step] ?? 0) + recallAt100;
    this.counts[step] = (this.counts[step] ?? 0) + 1;
  }

  /** Means over stretches of the measured steps, in order. */
  points(): readonly DriftPoint[] {
    const steps = Object.keys(this.counts).map(Number);
    const size = Math.max(1, Math.ceil(steps.length / STRETCHES));
    const points: DriftPoint[] = [];
    for (let from = 0; from < steps.length; from += size) {
      const stretch = steps.slice(from, from + size);
      const sum = (of: readonly number[]): number => stretch.reduce((total, step) => total + of[step], 0);
      const count = sum(this.counts);
      points.push({
        step: stretch[0],
        massRecall: sum(this.mass) / count,
        recallAt100: sum(this.top) / count,
      });
    }
    return points;
  }
}
