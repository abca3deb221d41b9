/** What kernels take at a time, as a stack states it, and how blocks of a product take its tiles in turn. */
import type { Stack } from '../hardware/stack-schema.ts';
import type { Gemm } from '../program/operation.ts';

/** What kernels of a machine take at a time. */
export interface Tiling {
  readonly sms: number;
  readonly tokenTiles: readonly number[];
  /** How blocks share the product of a tile, for each of `tokenTiles`, in steps of so many weights; null = not known. */
  readonly productBlocks: {
    readonly depth: number;
    readonly blocks: readonly { readonly rows: number; readonly perUnit: number }[];
  } | null;
  /** Tokens of a tile of raw and of coded KV; null = not known. */
  readonly attendTiles: { readonly raw: number; readonly coded: number } | null;
  /** Query rows of a KV head that attention takes at a time, and whether it takes one alone. */
  readonly attendRows: { readonly value: number; readonly alone: boolean };
  /** How declared work without a kernel of its own is shared; null = not known. See the stack's schema. */
  readonly workBlocks: {
    readonly bytes: number;
    readonly flops: number;
    readonly threads: number;
    readonly perUnit: number;
  } | null;
  /** Codecs whose groups make a block code twice the tokens of others. */
  readonly longCoded: readonly string[];
  /** Tile of the products that rebuild chosen tokens; null = not known. */
  readonly rebuildTile: { readonly tokens: number; readonly columns: number } | null;
  /** Clusters of 1, 2, … blocks of a multiprocessor each that run at once; null = not known. */
  readonly selectClusters: readonly number[] | null;
  /** How one block joins the parts of a row; null = not known. See the stack's schema. */
  readonly attendMerge: {
    readonly parts: number;
    readonly blocks: readonly {
      readonly headDim: number;
      readonly queryRows: number;
      readonly threads: number;
      readonly pads?: boolean | undefined;
      readonly lists?: number | undefined;
      readonly listsFew?: boolean | undefined;
      readonly startRatio?: { readonly value: number } | undefined;
    }[];
  } | null;
}

/** Query rows of a tile of tensor cores (m16n8k16). */
const TENSOR_ROWS: Tiling['attendRows'] = { value: 16, alone: false };

/** Greatest common divisor of whole numbers. */
export const commonDivisor = (a: number, b: number): number => (b === 0 ? a : commonDivisor(b, a % b));

/**
 * Tiles of weights that a block of a product finishes one after the other, at most: it takes an even stretch of all steps
 * along all tiles, which starts anywhere within one. 1 where that is not known.
 */
export const productTurns = (
  { m, n, k }: Pick<Gemm, 'm' | 'n' | 'k'>,
  { sms, tokenTiles, productBlocks }: Tiling,
): number => {
  const block = productBlocks?.blocks[tokenTiles.indexOf(m)];
  if (productBlocks === null || block === undefined) return 1;
  const steps = Math.ceil(k / productBlocks.depth);
  const stretch = Math.ceil((Math.ceil(n / block.rows) * steps) / (block.perUnit * sms));
  return Math.ceil((steps - commonDivisor(stretch, steps) + stretch) / steps);
};

const productBlocksOf = ({
  depth,
  blocks,
}: Partial<NonNullable<Stack['gemm']['tokenTiles']>> = {}): Tiling['productBlocks'] =>
  depth === undefined || blocks === undefined ? null : { depth, blocks };

/** What a stack says of its kernels, on so many multiprocessors. */
export const tilingOf = (
  { gemm, decodeAttention, rebuild, select, work, encode }: Stack,
  sms: number,
): Tiling => ({
  sms,
  tokenTiles: gemm.tokenTiles?.sizes ?? [],
  productBlocks: productBlocksOf(gemm.tokenTiles),
  attendTiles: decodeAttention.tileTokens ?? null,
  attendRows: decodeAttention.tileRows ?? TENSOR_ROWS,
  attendMerge: decodeAttention.merge ?? null,
  workBlocks: work ?? null,
  longCoded: encode?.long ?? [],
  rebuildTile: rebuild ?? null,
  selectClusters: select.clusters?.values ?? null,
});
