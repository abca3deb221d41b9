/** Tables of utilisation in a stack, and the sizes that they go by (sim/timing/sizes.ts says what those are of an operation). */
import * as z from 'zod';
import { provenance } from './quantity.ts';

/** Bytes are those of one launch; the `PerByte` and share sizes count one more than they are, so that none is 0. */
const SIZE_NAMES = [
  'rows',
  'bytes',
  'headDim',
  'queryRows',
  'tokens',
  'candidates',
  'chosenOf',
  'way',
  'slice',
  'rowBytes',
  'parts',
  'turns',
  'flopsPerByte',
  'matrixFlopsPerByte',
  'writeShare',
] as const;
export type SizeName = (typeof SIZE_NAMES)[number];

/** `shares` of a law's speed at the points of the axes, the last axis fastest; without axes one share holds everywhere. */
export const utilisation = z
  .strictObject({
    axes: z.array(
      z.strictObject({
        of: z.enum(SIZE_NAMES),
        at: z.array(z.number().positive()).min(1),
      }),
    ),
    shares: z.array(z.number().positive()),
    ...provenance,
  })
  .refine(
    ({ axes, shares }) => shares.length === axes.reduce((points, { at }) => points * at.length, 1),
    'expected one share a point of the axes',
  )
  .refine(
    ({ axes }) => axes.every(({ at }) => at.every((size, i) => i === 0 || size > at[i - 1])),
    'expected ascending sizes',
  );
