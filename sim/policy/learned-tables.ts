/**
 * Tables that a codec learns from a head's own first rows, once: levels, code books, bases. A head's rows never change, so
 * what was learned is remembered by array; a block that ends before there are enough rows learns from those that are
 * written, because later ones are the future.
 */

/** Rows that tables are learned from: one 2K-token sample of KVQuant's calibration (its default is 16 of them). */
export const LEARN_TOKENS = 2048;

/** Tables from the first rows of a matrix with `d` columns, of which `writtenTokens` are written. */
export type Tables<T> = (rows: Float32Array, d: number, writtenTokens: number) => T;

/** Rows to learn from when fewer than wanted are written: a power of two, so that growing prefixes share tables. */
const rowsToLearn = (learnTokens: number, writtenTokens: number): number => {
  if (writtenTokens >= learnTokens) return learnTokens;
  let tokens = 1;
  while (2 * tokens <= writtenTokens) tokens *= 2;
  return tokens;
};

export const learnedTables = <T>(
  learnTokens: number,
  learn: (rows: Float32Array, d: number, tokens: number) => T,
): Tables<T> => {
  const learned = new WeakMap<Float32Array, Map<number, T>>();
  return (rows, d, writtenTokens) => {
    const tables = learned.get(rows) ?? new Map<number, T>();
    learned.set(rows, tables);
    const tokens = rowsToLearn(learnTokens, writtenTokens);
    const known = tables.get(tokens);
    if (known !== undefined) return known;
    const table = learn(rows, d, tokens);
    tables.set(tokens, table);
    return table;
  };
};
