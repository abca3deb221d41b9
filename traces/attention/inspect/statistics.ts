/**
 * What an inspection measures, once for the arithmetic, the table and the picture: the constants that define each
 * statistic, the shape of a head's record, and the list of statistics with their names in words.
 */

/** First tokens that count as sink, as in StreamingLLM (arXiv:2309.17453). */
export const SINK_TOKENS = 4;
export const RECENT_TOKENS = [64, 256] as const;
/** Shares of all keys whose mass is reported. */
export const TOP_MASS_FRACTIONS = [0.001, 0.01, 0.05, 0.1, 0.2] as const;
export const ORACLE_SHARES = [0.9, 0.95, 0.99] as const;
/** Points of the concentration curve: 1, 1.5, 2, 3, 5, 7 of each decade from 10⁻⁴ of the keys. */
export const CURVE_FRACTIONS: readonly number[] = [
  ...[-4, -3, -2, -1].flatMap((decade) => [1, 1.5, 2, 3, 5, 7].map((digit) => Number(`${digit}e${decade}`))),
  1,
];
/** The sets whose persistence is measured: the top 1 % of the keys, and the top 256 keys. */
export const TOP_FRACTION = 0.01;
export const TOP_TOKENS = 256;
/** Reuse is counted on the blocks of 16 tokens with the most mass, one in twenty. */
export const SELECTED_BLOCK_FRACTION = 0.05;

/** The part of a record that one step alone decides; means over the looked-at steps. */
export interface ShapeStatistics {
  /** Mass of the top 0.1, 1, 5, 10 and 20 % of the attended keys, by "1%". */
  readonly topMass: Readonly<Record<string, number>>;
  /** Mass on the first 4 tokens. */
  readonly sinkShare: number;
  /** Mass on the last 64 and 256 tokens, the token's own included. */
  readonly recentShare: Readonly<Record<string, number>>;
  readonly entropyBits: number;
  /** Fewest keys that hold 90, 95, 99 % of the mass. */
  readonly oracleTokens: Readonly<Record<string, number>>;
  readonly blocks: {
    /** Share of the mass that lies on the best token of its block, by block size. */
    readonly topTokenShare: Readonly<Record<string, number>>;
    /** Fewest blocks of 128 tokens that hold 90 % of the mass. */
    readonly blocks90: number;
  };
}

export interface HeadStatistics extends ShapeStatistics {
  readonly locality: {
    /** Jaccard index of successive steps' top 1 %, and top 256; null when no two looked-at steps are successive. */
    readonly jaccardTopFraction: number | null;
    readonly jaccardTopTokens: number | null;
    /** Steps since a selected block was last selected, shares by bin. */
    readonly reuse: Readonly<Record<string, number>> | null;
  };
  /** The top 1 % of step 0 at the last run of steps: how much of the set is still right, and of the mass it could hold. */
  readonly drift: { readonly setRecall: number | null; readonly massRecall: number | null };
  /** With the other query heads of its KV head; null without any. */
  readonly agreement: Agreement | null;
  /** Mass of the top CURVE_FRACTIONS of the keys. */
  readonly curve: readonly number[];
}

/** Agreement of the query heads that share a KV head. */
export interface Agreement {
  /** Mean over pairs of heads: Jaccard index of their top 1 %, and Σ min(p, q) of their attention. */
  readonly jaccardTopFraction: number;
  readonly massOverlap: number;
}

export type Unit = 'ratio' | 'bits' | 'tokens' | 'blocks';

/** One number of a head's record, in words. */
export interface Statistic {
  readonly key: string;
  readonly label: string;
  readonly unit: Unit;
  readonly meaning: string;
  of(head: HeadStatistics): number | null;
}

const statistic = (
  key: string,
  label: string,
  unit: Unit,
  meaning: string,
  of: Statistic['of'],
): Statistic => ({ key, label, unit, meaning, of });

/** In the order of tables and pickers. */
export const STATISTICS: readonly Statistic[] = [
  ...['0.1%', '1%', '5%', '10%', '20%'].map((share) =>
    statistic(
      `top-${share}`,
      `mass in the top ${share.replace('%', ' %')}`,
      'ratio',
      `share of the attention on the ${share.replace('%', ' %')} of the keys that get most`,
      (head) => head.topMass[share],
    ),
  ),
  statistic(
    'sink',
    'sink share',
    'ratio',
    'share of the attention on the first 4 tokens',
    (head) => head.sinkShare,
  ),
  ...['64', '256'].map((tokens) =>
    statistic(
      `recent-${tokens}`,
      `last ${tokens} tokens`,
      'ratio',
      `share of the attention on the last ${tokens} tokens`,
      (head) => head.recentShare[tokens],
    ),
  ),
  statistic(
    'entropy',
    'entropy',
    'bits',
    'entropy of the attention: log2 of the keys if all got the same',
    (head) => head.entropyBits,
  ),
  ...['90%', '95%', '99%'].map((share) =>
    statistic(
      `oracle-${share}`,
      `keys for ${share.replace('%', ' %')}`,
      'tokens',
      `fewest keys that hold ${share.replace('%', ' %')} of the attention`,
      (head) => head.oracleTokens[share],
    ),
  ),
  statistic(
    'jaccard-top',
    'next step: top 1 %',
    'ratio',
    'Jaccard index of the top 1 % of one step and the next',
    (head) => head.locality.jaccardTopFraction,
  ),
  statistic(
    'jaccard-256',
    'next step: top 256',
    'ratio',
    'Jaccard index of the top 256 keys of one step and the next',
    (head) => head.locality.jaccardTopTokens,
  ),
  statistic(
    'reuse-1',
    'blocks reused at once',
    'ratio',
    'share of the selected 16-token blocks that the step before selected too',
    (head) => head.locality.reuse?.['1'] ?? null,
  ),
  statistic(
    'agree-top',
    'group: top 1 %',
    'ratio',
    'Jaccard index of the top 1 % with the other query heads of the KV head',
    (head) => head.agreement?.jaccardTopFraction ?? null,
  ),
  statistic(
    'agree-mass',
    'group: mass',
    'ratio',
    'attention in common with the other query heads of the KV head',
    (head) => head.agreement?.massOverlap ?? null,
  ),
  statistic(
    'drift-set',
    'step 0: set kept',
    'ratio',
    "share of step 0's top 1 % that is still in the top 1 % at the end",
    (head) => head.drift.setRecall,
  ),
  statistic(
    'drift-mass',
    'step 0: mass kept',
    'ratio',
    "attention on step 0's top 1 % at the end, against the best set of its size",
    (head) => head.drift.massRecall,
  ),
  ...['16', '64', '128'].map((tokens) =>
    statistic(
      `block-top-${tokens}`,
      `best token of ${tokens}`,
      'ratio',
      `share of the attention that lies on the best token of its ${tokens}-token block`,
      (head) => head.blocks.topTokenShare[tokens],
    ),
  ),
  statistic(
    'blocks-90',
    '128-token blocks for 90 %',
    'blocks',
    'fewest blocks of 128 tokens that hold 90 % of the attention',
    (head) => head.blocks.blocks90,
  ),
];
