/**
 * One row of attention by blocks of tokens: how much of a block's mass its best token has (a policy that fetches
 * whole blocks pays for the rest), and how many blocks hold 90 % of the mass. Blocks are aligned to position 0.
 */

/** Block sizes measured, in tokens. Each is a multiple of the first. */
export const BLOCK_TOKENS = [16, 64, 128] as const;
const FINEST = BLOCK_TOKENS[0];
const COARSEST = BLOCK_TOKENS[BLOCK_TOKENS.length - 1];
const COVERED_SHARE = 0.9;

export interface BlockRow {
  /** Blocks of the finest size, from position 0. */
  count: number;
  /** Mass, and largest single share, of each. */
  readonly mass: Float32Array;
  readonly top: Float32Array;
}

export const createBlockRow = (tokens: number): BlockRow => {
  const count = Math.ceil(tokens / FINEST);
  return { count, mass: new Float32Array(count), top: new Float32Array(count) };
};

/** Sums row[0..n), whose first entry stands at position `first`, into blocks of the finest size. */
export const fillBlocks = (row: Float32Array, n: number, first: number, out: BlockRow): void => {
  const { mass, top } = out;
  const end = first + n;
  out.count = Math.ceil(end / FINEST);
  const firstBlock = Math.floor(first / FINEST);
  mass.fill(0, 0, firstBlock);
  top.fill(0, 0, firstBlock);
  for (let block = firstBlock; block < out.count; block++) {
    const to = Math.min(end, (block + 1) * FINEST) - first;
    let sum = 0;
    let largest = 0;
    for (let i = Math.max(first, block * FINEST) - first; i < to; i++) {
      const p = row[i];
      sum += p;
      if (p > largest) largest = p;
    }
    mass[block] = sum;
    top[block] = largest;
  }
};

/** Share of the mass that lies on the best token of its block, for each of BLOCK_TOKENS, into `out`. */
export const topTokenShares = ({ count, mass, top }: BlockRow, out: Float64Array): void => {
  for (const [at, tokens] of BLOCK_TOKENS.entries()) {
    const width = tokens / FINEST;
    let best = 0;
    let total = 0;
    for (let block = 0; block < count; block += width) {
      let largest = 0;
      for (let i = block; i < Math.min(count, block + width); i++) {
        if (top[i] > largest) largest = top[i];
        total += mass[i];
      }
      best += largest;
    }
    out[at] = best / total;
  }
};

/** Fewest blocks of the coarsest size that hold 90 % of the mass. `scratch` has room for them. */
export const blocksFor90 = ({ count, mass }: BlockRow, scratch: Float32Array): number => {
  const width = COARSEST / FINEST;
  const blocks = Math.ceil(count / width);
  let total = 0;
  for (let block = 0; block < blocks; block++) {
    let sum = 0;
    for (let i = block * width; i < Math.min(count, (block + 1) * width); i++) sum += mass[i];
    scratch[block] = sum;
    total += sum;
  }
  const sorted = scratch.subarray(0, blocks).sort();
  let sum = 0;
  let taken = 0;
  // The slack forgives the last bits of a sum of float32.
  while (taken < blocks && sum < (COVERED_SHARE - 1e-7) * total) sum += sorted[blocks - 1 - taken++];
  return taken;
};
