/**
 * Blocks of sites that lie side by side in memory: their tables are written together, then other memory passes through the
 * caches once, and each site finds its own memory in none of them.
 */
import { AREA_NAMES, type AreaName, Layout } from '../execute/memory.ts';
import { fits, type MostMemory, type Sizes } from './memory-groups.ts';
import type { NamedSite } from './visits.ts';

/** Parts of files and huge pages of other sites' memory. */
const ALIGNMENT = 4096;
/** Sites whose memory one flush of the caches leaves cold. */
const MOST_SITES = 48;

export interface PlacedSite {
  readonly one: NamedSite;
  /** Where its memory begins in each area. */
  readonly base: Sizes;
}

export interface Block {
  readonly sites: readonly PlacedSite[];
  readonly sizes: Sizes;
}

const empty = (): Sizes => new Layout().sizes;

const roundUp = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

const mapped = (of: (name: AreaName) => number): Sizes =>
  Object.fromEntries(AREA_NAMES.map((name) => [name, of(name)])) as Sizes;

/** As many sites to a block, in their order, as half the bounds hold; larger ones alone, and none that don't fit at all. */
export const blocksOf = (
  sites: readonly { readonly one: NamedSite; readonly sizes: Sizes }[],
  most: MostMemory,
): readonly Block[] => {
  const usual = { hbmBytes: most.hbmBytes / 2, dramBytes: most.dramBytes / 2 };
  const blocks: { sites: PlacedSite[]; sizes: Sizes }[] = [];
  for (const { one, sizes } of sites) {
    if (!fits(sizes, most)) continue;
    const last = blocks.at(-1);
    const base = last?.sizes ?? empty();
    const together = mapped((name) => base[name] + roundUp(sizes[name]));
    if (last === undefined || last.sites.length >= MOST_SITES || !fits(together, usual))
      blocks.push({ sites: [{ one, base: empty() }], sizes: mapped((name) => roundUp(sizes[name])) });
    else {
      last.sites.push({ one, base });
      last.sizes = together;
    }
  }
  return blocks;
};

/** Bytes of each area that the blocks need one after the other. */
export const sizesOfBlocks = (blocks: readonly Block[]): Sizes =>
  mapped((name) => Math.max(0, ...blocks.map(({ sizes }) => sizes[name])));
