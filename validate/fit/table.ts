/** Tables of utilisation of a stack, fitted to what a law's formula leaves of its sites. */

import type { Stack } from '../../sim/hardware/stack-schema.ts';
import type { SizeName } from '../../sim/hardware/utilisation-schema.ts';
import { resolveMachine } from '../../sim/timing/cost.ts';
import { sizesOf } from '../../sim/timing/sizes.ts';
import type { Constant, MachineDescription } from '../overlay.ts';
import { predictNs } from '../predict-site.ts';
import { measuredNs, type SiteSamples } from '../samples.ts';
import { chooseAxes } from './choose-axes.ts';
import { type AxisChoice, axesOf, gridFit, type Shown } from './grid.ts';

/** Name of a law's table in the stack, and the sizes it goes by. */
export interface TableShape {
  readonly name: string;
  readonly sizes: readonly SizeName[];
  /** True where only those sizes matter that help to predict sites from others: it isn't known which do. */
  readonly chosen?: boolean;
}

const SIGNIFICANT = 4;
const rounded = (value: number): number => Number(value.toPrecision(SIGNIFICANT));

type Tables = NonNullable<Stack['utilisation']>;

/** Takes the table of this name out of the description's stack. */
export const dropTable = (description: MachineDescription, name: string): void => {
  const stack = description.stack as { utilisation?: Tables };
  const { [name]: _, ...others } = stack.utilisation ?? {};
  stack.utilisation = others;
};

const put = (description: MachineDescription, name: string, table: object): void => {
  const stack = description.stack as { utilisation?: Tables };
  stack.utilisation = { ...stack.utilisation, [name]: table as Tables[string] };
};

/**
 * Puts the table of the sites `from`, on the grid of all sites that are `shown`, into the description's stack in place of
 * the one that stands there. Returns the axes, which are `choices` or else those that the sites `from` ask for.
 */
export const fitTable = (
  description: MachineDescription,
  shape: TableShape,
  { shown, from }: { readonly shown: readonly SiteSamples[]; readonly from: readonly SiteSamples[] },
  { value: _, ...provenance }: Constant,
  choices?: readonly AxisChoice[],
): readonly AxisChoice[] => {
  // The one that stands there must not count.
  put(description, shape.name, { axes: [], shares: [1], ...provenance });
  const machine = resolveMachine(description.hardware, description.stack);
  const sizes = (site: SiteSamples) => sizesOf(site.operations[0], machine.tiling);
  const all = shown.map(sizes);
  const known = from.map(
    (site): Shown => ({
      sizes: sizes(site),
      logShare: Math.log(predictNs(site.operations, machine) / measuredNs(site)),
    }),
  );
  const whole = shape.sizes.map((of): AxisChoice => ({ of, apart: 'fine' }));
  const chosen = choices ?? (shape.chosen === true ? chooseAxes(shape.sizes, known, all) : whole);
  const axes = axesOf(chosen, all);
  const logShares = gridFit(axes, known);
  const table = {
    axes: axes.map(({ of, at }) => ({ of, at: at.map((x) => Number((2 ** x).toPrecision(8))) })),
    shares: Array.from(logShares, (share) => rounded(Math.exp(share))),
    ...provenance,
  };
  put(description, shape.name, table);
  return chosen;
};
