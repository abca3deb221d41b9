/**
 * KVQuant's non-uniform codes as a codec: keys with tables per channel, values with a range per token, 1 % outliers
 * (arXiv 2401.18079). Tables come from the first `calibrationTokens` rows of the head, all of them written before.
 */
import type { Codec } from './codec.ts';
import { learnedTables } from './learned-tables.ts';
import { calibrateKeys, calibrateValues, type NuqConfig, nuqRows } from './nuq.ts';

export interface NuqCodecConfig extends NuqConfig {
  readonly name: string;
  /** Rows that tables are learned from; fewer when a block is coded before there are as many. */
  readonly calibrationTokens: number;
}

/** An outlier takes its half-precision value and a 16-bit index: nuq4 with 1 % is 4.32 bits an element, as published. */
const OUTLIER_BYTES = 4;

export const nuqCodec = (config: NuqCodecConfig): Codec => {
  const { bits, outlierShare } = config;
  const keyTables = learnedTables(config.calibrationTokens, (rows, d, tokens) =>
    calibrateKeys(rows, d, tokens, config),
  );
  const valueTables = learnedTables(config.calibrationTokens, (rows, d, tokens) =>
    calibrateValues(rows, d, tokens, config),
  );
  const elementBytes = bits / 8 + outlierShare * OUTLIER_BYTES;
  return {
    name: config.name,
    title: `${bits}-bit levels by k-means, ${100 * outlierShare} % outliers; keys per channel, values per token`,
    kBytesPerToken: (headDim) => headDim * elementBytes,
    vBytesPerToken: (headDim) => headDim * elementBytes,
    // Range of each value token; key ranges and both sets of levels are tables.
    scaleBytes: (_, tokens) => 4 * tokens,
    tableBytes: (headDim) => 4 * headDim + 2 * 2 * 2 ** bits,
    decodeFlopsPerToken: (headDim) => 4 * headDim,
    encode(keys, values, headDim, from, tokens) {
      const codedKeys = nuqRows(keys, headDim, from, tokens, keyTables(keys, headDim, from + tokens));
      const codedValues = nuqRows(values, headDim, from, tokens, valueTables(values, headDim, from + tokens));
      return { tokens, decodeKeys: codedKeys.decode, decodeValues: codedValues.decode };
    },
  };
};
