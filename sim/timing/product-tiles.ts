/**
 * Kernels that rebuild chosen tokens by a product (kernels/cuda/delta-rebuild.cu, low-rank-rebuild.cu): blocks take tiles of
 * it, and a multiprocessor the blocks that it gets one after the other, so that time goes by whole rounds of tiles.
 */
import type { ScoreOperation } from '../program/operation.ts';
import type { Tiling } from './tiling.ts';

/** The kernels. */
export const REBUILDING: readonly string[] = ['delta-rebuild', 'low-rank-rebuild'];

/** Tiles of the product: those that hold what is asked for, and whole ones. Undefined where no such kernel does the work. */
const tilesOf = (
  { call, rows = 1, matrixFlops = 0 }: ScoreOperation,
  { tokens, columns }: NonNullable<Tiling['rebuildTile']>,
): { readonly asked: number; readonly whole: number } | undefined => {
  const { latentDim = 1, rank = 1 } = call?.shape ?? {};
  const { tokens: count = 1 } = call?.counts ?? {};
  switch (call?.kernel) {
    case 'delta-rebuild': {
      // All heads of a sequence at once: how many tokens and columns that makes is not told apart.
      const asked = matrixFlops / (2 * tokens * columns * latentDim);
      return { asked, whole: asked };
    }
    case 'low-rank-rebuild':
      // A head has no more columns than a tile, and with fewer takes as long.
      return {
        asked: matrixFlops / (2 * tokens * columns * rank),
        whole: rows * Math.ceil(count / tokens),
      };
    default:
      return undefined;
  }
};

/** Tiles that a multiprocessor takes at most, and the work that is done for each that is asked for. */
export const rebuildTurns = (
  operation: ScoreOperation,
  { rebuildTile, sms }: Tiling,
): { readonly turns: number; readonly padding: number } | undefined => {
  const tiles = rebuildTile === null ? undefined : tilesOf(operation, rebuildTile);
  if (tiles === undefined || tiles.asked === 0) return undefined;
  const turns = Math.ceil(tiles.whole / sms);
  return { turns, padding: (turns * sms) / tiles.asked };
};
