/**
 * A number of a profile or stack with where it comes from: value, status, source, date, and how where it isn't obvious.
 */
import * as z from 'zod';

/** From the most to the least trustworthy; `assumed` numbers say in `how` which mechanism they follow from. */
const statusSchema = z.enum(['measured', 'fitted', 'published', 'datasheet', 'assumed']);

export const provenance = {
  status: statusSchema,
  /** URL, paper, or the machine that it was measured on. */
  source: z.string().min(1),
  /** When the source was read or the measurement made: YYYY-MM, or YYYY-MM-DD. */
  date: z.string().regex(/^\d{4}-\d{2}(-\d{2})?$/, 'expected a date like 2026-11'),
  how: z.string().optional(),
};

const quantityOf = (value: z.ZodNumber) => z.strictObject({ value, ...provenance });

/** A rate, size, time or count: above zero. */
export const quantity = quantityOf(z.number().positive());
/** A time that may be nothing. */
export const time = quantityOf(z.number().nonnegative());
/** A share of something that cannot be exceeded. */
export const share = quantityOf(z.number().positive().max(1));
/** P95 of the absolute relative error that a law showed (or is given) on points it was not fitted on. */
export const error = quantityOf(z.number().nonnegative());

export type Quantity = z.infer<typeof quantity>;

/**
 * What a pass over memory costs beside its bytes once they are many: `ramp` nanoseconds, half of them at `rampBytes`.
 * Small work fills neither the chip nor a copy engine's pipeline and pays its start alone.
 */
export const ramp = { rampNs: time.optional(), rampBytes: quantity.optional() };
