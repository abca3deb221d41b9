/** A law that calibration fits: the numbers of the cost model that it may move, and the sites that show it. */
import type { SiteSamples } from '../samples.ts';
import type { TableShape } from './table.ts';

export interface Law {
  readonly name: string;
  /** Paths of the numbers, below { hardware, stack }; all positive. */
  readonly parameters: readonly string[];
  /** Numbers that its sites don't tell from others, and what they are taken for. */
  readonly taken?: Readonly<Record<string, number>>;
  /** Facts of its kernels that no time tells, and the source that says so. */
  readonly stated?: Readonly<Record<string, { readonly value: boolean; readonly how: string }>>;
  /** Where the search begins, of numbers for which it isn't what others of their name begin with. */
  readonly first?: Readonly<Record<string, number>>;
  /** What numbers are taken for where sites are fewer than they: paths of others, which an earlier law has found. */
  readonly scarce?: Readonly<Record<string, string>>;
  /** Path of a parameter's upper bound, where physics sets one. */
  readonly atMost?: Readonly<Record<string, string>>;
  /** Where the 95th percentile of the error on sites left out goes. */
  readonly errorPath?: string;
  /** Table of utilisation that takes what the formula leaves: its name in the stack, and the sizes it goes by. */
  readonly table?: TableShape;
  shows(site: SiteSamples): boolean;
  /** What its numbers are fitted on in place of a site; it is judged by its sites. */
  instead?(site: SiteSamples, all: readonly SiteSamples[]): SiteSamples;
}
