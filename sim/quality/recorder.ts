/**
 * Everything that is measured of one policy over a run: samples per query head and measured step, and sums of what spans
 * steps. `summarise` (summary.ts) makes the result's quality of it.
 */
import { Admission, type FutureAttention } from './admission.ts';
import { Drift } from './drift.ts';
import { EvictionLosses, HeadEviction, type TokenRanges } from './eviction.ts';
import type { ExactAttention } from './exact-attention.ts';
import type { HeadQuality } from './head-quality.ts';
import { HeadLocality, Locality } from './locality.ts';
import type { Selection } from './selection.ts';
import { ORACLE_SHARES, type Truth } from './truth.ts';

export class QualityRecorder {
  readonly massRecall: number[] = [];
  readonly topkRecall: number[] = [];
  readonly recallAt100: number[] = [];
  /** Mass recall over that of the best choice of the same size. */
  readonly bestRatio: number[] = [];
  readonly valueMass: number[] = [];
  readonly outputError: number[] = [];
  readonly totalVariation: number[] = [];
  readonly logitRms: number[] = [];
  readonly keyError: number[] = [];
  readonly valueError: number[] = [];
  /** By `ORACLE_SHARES`: the least tokens that hold the share, and their number over the policy's own. */
  readonly oracleTokens: readonly number[][] = ORACLE_SHARES.map(() => []);
  readonly efficiency: readonly number[][] = ORACLE_SHARES.map(() => []);
  readonly locality = new Locality();
  readonly eviction = new EvictionLosses();
  readonly admission = new Admission();
  readonly drift = new Drift();

  /** Adds query head g of a step. */
  add(step: number, result: HeadQuality, exact: ExactAttention, g: number, truth: Truth): void {
    this.massRecall.push(result.massRecall);
    this.topkRecall.push(result.topkRecall);
    this.recallAt100.push(result.recallAt100);
    this.bestRatio.push(result.bestMass === 0 ? 1 : Math.min(1, result.massRecall / result.bestMass));
    this.totalVariation.push(result.totalVariation);
    const measured = [
      [this.outputError, result.outputError],
      [this.valueMass, result.valueMass],
      [this.logitRms, result.logitRms],
      [this.keyError, result.keyError],
      [this.valueError, result.valueError],
    ] as const;
    for (const [samples, value] of measured) if (value >= 0) samples.push(value);
    const oracle = truth.oracleTokens(exact, g);
    for (let i = 0; i < oracle.length; i++) {
      this.oracleTokens[i].push(oracle[i]);
      if (result.tokens > 0) this.efficiency[i].push(oracle[i] / result.tokens);
    }
    this.drift.add(step, result.massRecall, result.recallAt100);
  }
}

/** What spans the steps of one KV head of one layer under one policy. */
export class HeadRecorder {
  private readonly quality: QualityRecorder;
  private readonly locality: HeadLocality;
  private readonly eviction: HeadEviction;
  /** Prompt tokens that are alive when decoding begins. */
  private readonly kept: Uint8Array;

  constructor(quality: QualityRecorder, place: Uint8Array, promptTokens: number, evidence: TokenRanges) {
    this.quality = quality;
    this.locality = new HeadLocality(quality.locality, place.length);
    this.eviction = new HeadEviction(quality.eviction, evidence);
    this.kept = place.slice(0, promptTokens).map((at) => Number(at !== 0));
  }

  /** A choice was made; `isAdjacent` says whether the step before chose too. */
  choose(selection: Selection, liveTokens: number, isAdjacent: boolean): void {
    this.locality.add(selection, liveTokens, isAdjacent);
  }

  /** A step was measured. */
  add(exact: ExactAttention, selection: Selection, place: Uint8Array, liveTokens: number): void {
    this.eviction.add(exact, selection, place, liveTokens);
  }

  /** The last step was measured. */
  finish(place: Uint8Array, future: FutureAttention, gate: Float32Array | null): void {
    this.eviction.finish(place);
    this.quality.admission.add(future, this.kept, gate);
  }
}
