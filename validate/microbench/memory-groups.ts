/**
 * Sites share buffers, one for each area and as large as the largest site needs. Groups of sites take them in turn, so
 * that all areas together stay within what may be used of the machine's memory.
 */
import type { Backend } from '../../kernels/backend.ts';
import { AREA_NAMES, AREAS, Layout, Memory } from '../execute/memory.ts';
import type { Bounds, Site } from './microbench.ts';

export type Sizes = Layout['sizes'];
export type MostMemory = Pick<Bounds, 'hbmBytes' | 'dramBytes'>;

export interface MemoryGroup<T> {
  readonly sites: readonly T[];
  /** Bytes of each area. */
  readonly sizes: Sizes;
}

export const sizesOf = (site: Site): Sizes => {
  const layout = new Layout();
  site.build(layout);
  return layout.sizes;
};

/** Bytes of each area that sites need one after the other. */
const shared = (one: Sizes, other: Sizes): Sizes => {
  const sizes = { ...one };
  for (const name of AREA_NAMES) sizes[name] = Math.max(sizes[name], other[name]);
  return sizes;
};

/** Bytes of device memory, and of the host's, pinned or not. */
const takenBy = (sizes: Sizes) => {
  const sum = { hbm: 0, dram: 0, pageable: 0, nvme: 0 };
  for (const name of AREA_NAMES) sum[AREAS[name].tier] += sizes[name];
  return { hbmBytes: sum.hbm, dramBytes: sum.dram + sum.pageable };
};

export const fits = (sizes: Sizes, most: MostMemory): boolean => {
  const { hbmBytes, dramBytes } = takenBy(sizes);
  return hbmBytes <= most.hbmBytes && dramBytes <= most.dramBytes;
};

/** Groups whose areas fit into the bounds together; sites that don't fit alone are in none. */
export const memoryGroups = <T extends { readonly site: Site }>(
  sites: readonly T[],
  most: MostMemory,
): readonly MemoryGroup<T>[] => {
  const total = (sizes: Sizes): number => AREA_NAMES.reduce((sum, name) => sum + sizes[name], 0);
  const sized = sites
    .map((one) => ({ one, sizes: sizesOf(one.site) }))
    .filter(({ sizes }) => fits(sizes, most))
    .sort((a, b) => total(b.sizes) - total(a.sizes));
  const groups: { sites: T[]; sizes: Sizes }[] = [];
  for (const { one, sizes } of sized) {
    const group = groups.find((other) => fits(shared(other.sizes, sizes), most));
    if (group === undefined) groups.push({ sites: [one], sizes });
    else {
      group.sites.push(one);
      group.sizes = shared(group.sizes, sizes);
    }
  }
  return groups;
};

/** The buffers of a group. Throws KernelError where a tier is too small. */
export const allocateGroup = async ({ sizes }: MemoryGroup<unknown>, backend: Backend): Promise<Memory> =>
  await Memory.allocate(backend, sizes, 1);
