/** What the page of a validation shows, as its payload carries it, and the few things that its views share. */
import type { Tip } from '../app/tip.ts';

/** Bytes by what they cross. */
export interface CrossedBytes {
  readonly hbm: number;
  readonly h2d: number;
  readonly d2h: number;
  readonly dram: number;
}

export interface ValidatedCase {
  readonly policy: string;
  readonly model: string;
  readonly context: number;
  readonly batch: number;
  readonly budget: number | null;
  readonly layers: number;
  readonly predictedNs: number;
  readonly measuredNs: number;
  /** 5th and 95th percentile of the measured repeats. */
  readonly spreadNs: readonly [number, number];
  readonly predictedBytes: number;
  readonly measuredBytes: number;
  readonly bytes: { readonly predicted: CrossedBytes; readonly measured: CrossedBytes };
  readonly outputError: number | null;
  readonly jaccard: number | null;
  readonly standIns: readonly { readonly what: string; readonly count: number }[];
  /** The program's bytes and flops at measured ceilings, measured time over that, and the kind most above its own. */
  readonly floor: { readonly floorNs: number; readonly ratio: number; readonly worst: string | null };
  /** Time alone of all operations of a kind. */
  readonly kinds: readonly {
    readonly kind: string;
    readonly operations: number;
    readonly predictedNs: number;
    readonly measuredNs: number;
  }[];
}

export interface ValidationResult {
  readonly experiment: { readonly hardware: string; readonly stack: string };
  readonly seed: number;
  readonly machine: {
    readonly backend: string;
    readonly name: string;
    readonly driver: string;
    readonly runtime: string;
    readonly date: string;
    readonly emulated: readonly string[];
  };
  readonly cases: readonly ValidatedCase[];
  readonly refused: readonly {
    readonly policy: string;
    readonly context: number;
    readonly batch: number;
    readonly reason: string;
  }[];
  readonly summary: {
    readonly n: number;
    readonly mape: number;
    readonly medianApe: number;
    readonly p95Ape: number;
    readonly bias: number;
    readonly kendallTau: number | null;
    readonly bytesMape: number;
    readonly noiseApe: number | null;
    readonly signAccuracy: number | null;
  };
}

export interface ValidationPage {
  readonly result: ValidationResult;
  readonly tip: Tip;
}

/** What rules a step's time by where its bytes go: the classes in which errors differ. */
export const REGIMES = ['HBM only', 'over the host link', 'on the CPU'] as const;
export type Regime = (typeof REGIMES)[number];

export const regimeOf = ({ bytes: { measured } }: ValidatedCase): Regime => {
  if (measured.dram > 0) return 'on the CPU';
  return measured.h2d > 0.01 * measured.hbm ? 'over the host link' : 'HBM only';
};

/** (predicted − measured) / measured. */
export const errorOf = ({ predictedNs, measuredNs }: ValidatedCase): number => predictedNs / measuredNs - 1;

export const signed = (ratio: number): string => `${ratio > 0 ? '+' : ''}${(100 * ratio).toFixed(1)} %`;

/** "32,768 tokens, batch 4", with the budget where all policies share one. */
export const groupOf = ({ context, batch, budget }: ValidatedCase): string =>
  `${context} tokens, batch ${batch}${budget === null ? '' : `, ${budget} attended`}`;
