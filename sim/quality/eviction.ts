/**
 * What dropped tokens would have received: the exact attention mass that later queries put on them (a step's lost mass),
 * the most that any single dropped token misses (one lost needle hides in a mean), and what became of the tokens that a
 * trace names as evidence for its answer: how many are still alive at the end, and how much of the mass on them is
 * attended to (RULER's needles, arXiv 2404.06654).
 */
import type { ExactAttention } from './exact-attention.ts';
import type { Selection } from './selection.ts';

/** Token ranges [from, to). */
export type TokenRanges = readonly (readonly [number, number])[];

/** Sums and samples over all heads of a policy. */
export class EvictionLosses {
  /** Mass on dropped tokens, per query head and step in which its KV head had dropped something. */
  readonly lostMass: number[] = [];
  /** Per KV head that dropped something: the most that one token misses, mean over group and steps. */
  readonly worstToken: number[] = [];
  private evidenceTokens = 0;
  private evidenceLive = 0;
  private evidenceMass = 0;
  private evidenceAttended = 0;

  addEvidenceMass(mass: number, attended: number): void {
    this.evidenceMass += mass;
    this.evidenceAttended += attended;
  }

  addEvidenceTokens(tokens: number, live: number): void {
    this.evidenceTokens += tokens;
    this.evidenceLive += live;
  }

  /** Shares of evidence tokens alive and of attention to them; null when the trace names none. */
  needle(): { readonly live: number; readonly massRecall: number } | null {
    if (this.evidenceTokens === 0) return null;
    return {
      live: this.evidenceLive / this.evidenceTokens,
      massRecall: this.evidenceMass === 0 ? 0 : Math.min(1, this.evidenceAttended / this.evidenceMass),
    };
  }
}

export class HeadEviction {
  private readonly totals: EvictionLosses;
  private readonly evidence: TokenRanges;
  /** Mass that each token would have received while dropped; made when something is dropped. */
  private missed: Float64Array | null = null;
  private rows = 0;

  constructor(totals: EvictionLosses, evidence: TokenRanges) {
    this.totals = totals;
    this.evidence = evidence;
  }

  /** A step was scored; `place` is 0 for dropped tokens. */
  add(exact: ExactAttention, selection: Selection, place: Uint8Array, liveTokens: number): void {
    const { groupSize, length } = exact;
    this.addEvidence(exact, selection);
    this.rows += groupSize;
    if (liveTokens === length) return;
    this.missed ??= new Float64Array(place.length);
    for (let g = 0; g < groupSize; g++) {
      let lost = 0;
      for (let token = 0, at = g * exact.stride; token < length; token++, at++) {
        if (place[token] !== 0) continue;
        const mass = exact.probabilities[at];
        lost += mass;
        this.missed[token] += mass;
      }
      this.totals.lostMass.push(Math.min(1, lost));
    }
  }

  /** The last step was scored. */
  finish(place: Uint8Array): void {
    for (const [from, to] of this.evidence) {
      let live = 0;
      for (let token = from; token < to; token++) if (place[token] !== 0) live++;
      this.totals.addEvidenceTokens(to - from, live);
    }
    if (this.missed === null) return;
    let worst = 0;
    for (const mass of this.missed) worst = Math.max(worst, mass);
    this.totals.worstToken.push(worst / this.rows);
  }

  private addEvidence({ groupSize, stride, probabilities }: ExactAttention, selection: Selection): void {
    for (const [from, to] of this.evidence) {
      for (let g = 0; g < groupSize; g++) {
        let mass = 0;
        let attended = 0;
        for (let token = from; token < to; token++) {
          const own = probabilities[g * stride + token];
          mass += own;
          if (selection.all || (selection.marks[token] >> g) & 1) attended += own;
        }
        this.totals.addEvidenceMass(mass, attended);
      }
    }
  }
}
