/**
 * What is counted about one query head (or about the mean attention of a KV head's queries) while steps go by, and
 * its summary: means over the looked-at steps, ready for JSON.
 */
import { topKPositions } from '../../../sim/quality/top-k.ts';
import { BLOCK_TOKENS, type BlockRow, blocksFor90, fillBlocks, topTokenShares } from './blocks.ts';
import { type Concentration, measureConcentration, topSize } from './concentration.ts';
import { commonPositions, jaccard } from './overlap.ts';
import { addSelection, createReuse, type Reuse, reuseShares } from './reuse.ts';
import {
  type Agreement,
  CURVE_FRACTIONS,
  type HeadStatistics,
  ORACLE_SHARES,
  RECENT_TOKENS,
  SELECTED_BLOCK_FRACTION,
  type ShapeStatistics,
  SINK_TOKENS,
  TOP_FRACTION,
  TOP_MASS_FRACTIONS,
  TOP_TOKENS,
} from './statistics.ts';

/** Buffers that all heads of an inspection share. */
export interface Scratch {
  readonly concentration: Concentration;
  readonly blocks: BlockRow;
  readonly blockShares: Float64Array;
  readonly coarse: Float32Array;
  readonly selected: Int32Array;
}

/** A list of positions, ascending. */
interface PositionSet {
  readonly positions: Int32Array;
  count: number;
}

const createSet = (capacity: number): PositionSet => ({ positions: new Int32Array(capacity), count: 0 });

const copySet = (from: PositionSet, to: PositionSet): void => {
  to.positions.set(from.positions.subarray(0, from.count));
  to.count = from.count;
};

/** The sums of one head. Successive steps are told by their numbers. */
export interface HeadTally {
  rows: number;
  readonly topMass: Float64Array;
  readonly curve: Float64Array;
  readonly oracleTokens: Float64Array;
  readonly recent: Float64Array;
  readonly blockShares: Float64Array;
  sink: number;
  entropyBits: number;
  blocks90: number;
  lastStep: number;
  /** Pairs of successive steps, and the sums of their Jaccard indices; top-256 pairs only while n is larger. */
  pairs: number;
  jaccardFraction: number;
  pairsTokens: number;
  jaccardTokens: number;
  readonly top: PositionSet;
  readonly topBefore: PositionSet;
  readonly largest: PositionSet;
  readonly largestBefore: PositionSet;
  readonly origin: PositionSet;
  readonly reuse: Reuse;
  /** Sums over this head's pairs with others of its group. */
  agreementPairs: number;
  agreementTop: number;
  agreementMass: number;
  /** Per looked-at step: share of step 0's top set that is still in it, and its mass against the best set's. */
  readonly driftSet: number[];
  readonly driftMass: number[];
}

/** `tokens`: the longest row's last position + 1. */
export const createTally = (tokens: number): HeadTally => {
  const top = topSize(TOP_FRACTION, tokens);
  return {
    rows: 0,
    topMass: new Float64Array(TOP_MASS_FRACTIONS.length),
    curve: new Float64Array(CURVE_FRACTIONS.length),
    oracleTokens: new Float64Array(ORACLE_SHARES.length),
    recent: new Float64Array(RECENT_TOKENS.length),
    blockShares: new Float64Array(BLOCK_TOKENS.length),
    sink: 0,
    entropyBits: 0,
    blocks90: 0,
    lastStep: -2,
    pairs: 0,
    jaccardFraction: 0,
    pairsTokens: 0,
    jaccardTokens: 0,
    top: createSet(top),
    topBefore: createSet(top),
    largest: createSet(TOP_TOKENS),
    largestBefore: createSet(TOP_TOKENS),
    origin: createSet(top),
    reuse: createReuse(Math.ceil(tokens / BLOCK_TOKENS[0])),
    agreementPairs: 0,
    agreementTop: 0,
    agreementMass: 0,
    driftSet: [],
    driftMass: [],
  };
};

const addShape = (tally: HeadTally, row: Float32Array, n: number, first: number, scratch: Scratch): void => {
  const { concentration, blocks, blockShares, coarse } = scratch;
  measureConcentration(row, n, CURVE_FRACTIONS, ORACLE_SHARES, concentration);
  const { total, entropyBits, topMass, oracleTokens } = concentration;
  for (let i = 0; i < topMass.length; i++) tally.curve[i] += topMass[i];
  for (const [i, fraction] of TOP_MASS_FRACTIONS.entries())
    tally.topMass[i] += topMass[CURVE_FRACTIONS.indexOf(fraction)];
  for (let i = 0; i < oracleTokens.length; i++) tally.oracleTokens[i] += oracleTokens[i];
  tally.entropyBits += entropyBits;
  let sink = 0;
  for (let i = 0; i < Math.min(n, SINK_TOKENS - first); i++) sink += row[i];
  tally.sink += sink / total;
  let recent = 0;
  for (let i = n - 1, at = 0; at < RECENT_TOKENS.length; at++) {
    for (const end = Math.max(0, n - RECENT_TOKENS[at]); i >= end; i--) recent += row[i];
    tally.recent[at] += recent / total;
  }
  fillBlocks(row, n, first, blocks);
  topTokenShares(blocks, blockShares);
  for (let i = 0; i < blockShares.length; i++) tally.blockShares[i] += blockShares[i];
  tally.blocks90 += blocksFor90(blocks, coarse);
  tally.rows++;
};

const takeTop = (row: Float32Array, n: number, k: number, first: number, set: PositionSet): void => {
  set.count = topKPositions(row, n, k, set.positions);
  for (let i = 0; i < set.count; i++) set.positions[i] += first;
};

const addDrift = (tally: HeadTally, row: Float32Array, first: number, topMass: number): void => {
  const { origin, top } = tally;
  if (tally.rows === 1) copySet(top, origin);
  let mass = 0;
  for (let i = 0; i < origin.count; i++)
    if (origin.positions[i] >= first) mass += row[origin.positions[i] - first];
  const common = commonPositions(origin.positions, origin.count, top.positions, top.count);
  tally.driftSet.push(common / origin.count);
  tally.driftMass.push(topMass > 0 ? Math.min(1, mass / topMass) : 1);
};

/** Everything about the mean attention of a group that a KV head must serve: no sets, no time. */
export const addGroupRow = addShape;

/**
 * Adds the attention of one step: row[0..n) sums to 1 and begins at position `first`. Steps come in ascending order;
 * the first one is the origin of drift.
 */
export const addRow = (
  tally: HeadTally,
  row: Float32Array,
  n: number,
  first: number,
  step: number,
  scratch: Scratch,
): void => {
  addShape(tally, row, n, first, scratch);
  const follows = step === tally.lastStep + 1;
  const { top, topBefore, largest, largestBefore, reuse } = tally;
  takeTop(row, n, topSize(TOP_FRACTION, n), first, top);
  if (follows) {
    tally.pairs++;
    tally.jaccardFraction += jaccard(top.positions, top.count, topBefore.positions, topBefore.count);
  }
  // With no more tokens than the set takes, every set is the same one and says nothing.
  const hasChoice = n > TOP_TOKENS + 1;
  if (hasChoice) {
    takeTop(row, n, TOP_TOKENS, first, largest);
    if (follows && largestBefore.count > 0) {
      tally.pairsTokens++;
      tally.jaccardTokens += jaccard(
        largest.positions,
        largest.count,
        largestBefore.positions,
        largestBefore.count,
      );
    }
    copySet(largest, largestBefore);
  }
  let topMass = 0;
  for (let i = 0; i < top.count; i++) topMass += row[top.positions[i] - first];
  addDrift(tally, row, first, topMass);
  copySet(top, topBefore);
  const { mass, count } = scratch.blocks;
  const chosen = topKPositions(mass, count, topSize(SELECTED_BLOCK_FRACTION, count), scratch.selected);
  addSelection(reuse, step, scratch.selected, chosen);
  tally.lastStep = step;
};

const named = (
  names: readonly (string | number)[],
  sums: Float64Array,
  rows: number,
): Record<string, number> => Object.fromEntries(names.map((name, at) => [String(name), sums[at] / rows]));

/** `from`: the first looked-at step of the last run; drift is averaged from there on, null when that is step 0's run. */
export const summarizeTally = (tally: HeadTally, from: number): HeadStatistics => {
  const { rows, pairs, pairsTokens, reuse, driftSet, driftMass } = tally;
  const late = (values: readonly number[]): number | null =>
    from === 0 ? null : values.slice(from).reduce((sum, value) => sum + value, 0) / (values.length - from);
  return {
    ...shapeOf(tally),
    locality: {
      jaccardTopFraction: pairs > 0 ? tally.jaccardFraction / pairs : null,
      jaccardTopTokens: pairsTokens > 0 ? tally.jaccardTokens / pairsTokens : null,
      reuse: reuseShares(reuse),
    },
    agreement: agreementOf(tally),
    drift: { setRecall: late(driftSet), massRecall: late(driftMass) },
    curve: Array.from(tally.curve, (sum) => sum / rows),
  };
};

/** Of one head, or of several together: mean over their pairs. */
export const agreementOf = (...tallies: readonly HeadTally[]): Agreement | null => {
  const sum = (pick: (tally: HeadTally) => number): number =>
    tallies.reduce((total, tally) => total + pick(tally), 0);
  const pairs = sum((tally) => tally.agreementPairs);
  if (pairs === 0) return null;
  return {
    jaccardTopFraction: sum((tally) => tally.agreementTop) / pairs,
    massOverlap: sum((tally) => tally.agreementMass) / pairs,
  };
};

const percent = (share: number): string => `${Number((100 * share).toPrecision(6))}%`;

/** The part that does not look at neighbouring steps. */
export const shapeOf = (tally: HeadTally): ShapeStatistics => {
  const { rows } = tally;
  return {
    topMass: named(TOP_MASS_FRACTIONS.map(percent), tally.topMass, rows),
    sinkShare: tally.sink / rows,
    recentShare: named(RECENT_TOKENS, tally.recent, rows),
    entropyBits: tally.entropyBits / rows,
    oracleTokens: named(ORACLE_SHARES.map(percent), tally.oracleTokens, rows),
    blocks: { topTokenShare: named(BLOCK_TOKENS, tally.blockShares, rows), blocks90: tally.blocks90 / rows },
  };
};
