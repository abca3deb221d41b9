/** Tables of utilisation of a stack, fitted to what a law's formula leaves of its sites. */

import type { Stack } from '../../sim/hardware/stack-schema.ts';
import type { SizeName } from '../../sim/hardware/utilisation-schema.ts';
import { resolveMachine } from '../../sim/timing/cost.ts';
import { sizesOf } from '../../sim/timing/sizes.ts';
import type { Constant, MachineDescription } from '../overlay.ts';
import { predictNs } from '../predict-site.ts';
import { measuredNs, type SiteSamples } from '../samples.ts';
import { axesOf, fitGrid } from './grid.ts';

/** Name of a law's table in the stack, and the sizes it goes by. */
export interface TableShape {
  readonly name: string;
  readonly sizes: readonly SizeName[];
}

const SIGNIFICANT = 4;
const rounded = (value: number): number => Number(value.toPrecision(SIGNIFICANT));

type Tables = NonNullable<Stack['utilisation']>;

/**
 * Puts the table of the sites `from`, on the grid of all sites that are `shown`, into the description's stack in place of
 * the one that stands there; takes that one away where there is nothing to tabulate.
 */
export const fitTable = (
  description: MachineDescription,
  shape: TableShape,
  { shown, from }: { readonly shown: readonly SiteSamples[]; readonly from: readonly SiteSamples[] },
  { value: _, ...provenance }: Constant,
): void => {
  const stack = description.stack as { utilisation?: Tables };
  const { [shape.name]: __, ...others } = stack.utilisation ?? {};
  stack.utilisation = others;
  const machine = resolveMachine(description.hardware, description.stack);
  const sizes = (site: SiteSamples) => sizesOf(site.operations[0], machine.tiling);
  const axes = axesOf(shape.sizes, shown.map(sizes));
  if (from.length === 0 || axes.length === 0) return;
  const logShares = fitGrid(
    axes,
    from.map((site) => ({
      sizes: sizes(site),
      logShare: Math.log(predictNs(site.operations, machine) / measuredNs(site)),
    })),
  );
  const table = {
    axes: axes.map(({ of, at }) => ({ of, at: at.map((x) => Number((2 ** x).toPrecision(8))) })),
    shares: Array.from(logShares, (share) => rounded(Math.exp(share))),
    ...provenance,
  };
  stack.utilisation = { ...others, [shape.name]: table as Tables[string] };
};
