/**
 * A paper's published numbers as data, with the software stack that they were measured with. One JSON file a paper; a
 * cell says what was run, what was measured, where it stands in print, and whether constants may be fitted on it.
 */
import * as z from 'zod';
import { METRICS } from './metrics.ts';
import { UNITS } from './units.ts';

const PAPER_FORMAT = 'kvtier.paper/1';
export const PAPER_STACK_FORMAT = 'kvtier.paper-stack/1';

/** More constants than this a paper would describe its tables instead of predicting them. */
export const MAX_FITTED = 4;

const text = z.string().min(1);
const date = z.string().regex(/^\d{4}-\d{2}(-\d{2})?$/, 'expected a date like 2026-11');

const policySchema = z.strictObject({
  name: text,
  /** Parameters that the paper states or that are assumed; the others keep the policy's defaults. */
  config: z.record(z.string(), z.unknown()).default({}),
});

const setupFields = {
  /** A catalog name, or a Hugging Face config.json. */
  model: z.union([text, z.record(z.string(), z.unknown())]),
  /** A stack of the paper's own `stacks`, or one in stacks/, which several papers use or which has fitted constants. */
  stack: text,
  policy: policySchema,
  contextTokens: z.int().min(16).max(4_194_304),
  batch: z.int().min(1).default(1),
  /** Decode steps that are simulated; the median one counts. */
  steps: z.int().min(1).default(3),
  /**
   * What the policy chooses from: `even` keys without structure (enough where bytes depend on lengths and parameters
   * alone), a preset of the synthetic generator, or for recall a shipped trace (traces/samples/long-decode).
   */
  attention: text.default('even'),
  layers: z.union([z.literal('auto'), z.array(z.int().min(0)).min(1)]).default('auto'),
  kvHeads: z.union([z.literal('auto'), z.array(z.int().min(0)).min(1)]).default([0]),
  /** False leaves out projections, MLP and output head, where the paper timed attention alone. */
  dense: z.boolean().default(true),
};

export const setupSchema = z.strictObject(setupFields);
export type Setup = z.infer<typeof setupSchema>;

/** A named set-up of the paper and what differs from it. */
const setupReferenceSchema = z.strictObject({
  use: text,
  ...z.strictObject(setupFields).partial().shape,
  batch: z.int().min(1).optional(),
  steps: z.int().min(1).optional(),
  attention: text.optional(),
  layers: setupFields.layers.unwrap().optional(),
  kvHeads: setupFields.kvHeads.unwrap().optional(),
  dense: z.boolean().optional(),
});
export type SetupReference = z.infer<typeof setupReferenceSchema>;

const cellSchema = z.strictObject({
  table: text,
  cell: text,
  /** Set-up that the number was measured on. */
  setup: setupReferenceSchema,
  metric: z.enum(METRICS),
  /** A second set-up, where the number is a comparison: ratio = a / b, speedup = b / a, saved = 1 − a / b, extra = a / b − 1, difference = a − b. */
  against: z
    .strictObject({
      setup: setupReferenceSchema,
      as: z.enum(['ratio', 'speedup', 'saved', 'extra', 'difference']),
      metric: z.enum(METRICS).optional(),
    })
    .optional(),
  unit: z.enum(UNITS),
  published: z.number().positive(),
  /** Table, figure or file of the source where the number stands. */
  source: text,
  role: z.enum(['calibration', 'test']),
  /** What was assumed for this cell, or why it differs. */
  note: text.optional(),
});
export type Cell = z.infer<typeof cellSchema>;

const sensitivitySchema = z.strictObject({
  /** A cell of this paper, as `table: cell`. */
  cell: text,
  /** Field of the cell's set-up, as a path: `policy.config.slowBlocks`, `contextTokens`. */
  field: text,
  /** Which of the cell's set-ups: its own, the one that it is compared with, or both. */
  of: z.enum(['setup', 'against', 'both']).default('setup'),
  values: z.array(z.unknown()).min(2),
  why: text,
});

const constantSchema = z.strictObject({
  /** Where it goes, from `hardware` or `stack` down: `stack.hostNs`, `stack.kernels[score.votes].startNs`. */
  path: z
    .string()
    .regex(/^(hardware|stack)(\.[A-Za-z]\w*|\[[\w.-]+\])+$/, 'expected a path from hardware or stack down'),
  value: z.number().nonnegative(),
  how: text,
});

/** What a paper measured on, with nothing fitted. */
const machineFields = {
  title: text,
  /** Catalog names that the constants are laid over. */
  hardware: text,
  stack: text,
  /** Numbers that were measured or published elsewhere, or that are assumed. */
  stated: z
    .array(
      constantSchema.extend({
        status: z.enum(['measured', 'published', 'datasheet', 'assumed']),
        source: text,
        date,
      }),
    )
    .default([]),
};

export const paperStackSchema = z.strictObject({
  format: z.literal(PAPER_STACK_FORMAT),
  name: text,
  ...machineFields,
  /** Numbers fitted on calibration cells of `paper`, each on its own cells; written by `npm run fit-papers`. */
  fitted: z
    .array(constantSchema.extend({ paper: text, cells: z.array(text).min(1) }))
    .max(MAX_FITTED, `expected at most ${MAX_FITTED} fitted constants`)
    .default([]),
});
export type PaperStack = z.infer<typeof paperStackSchema>;

export const paperSchema = z
  .strictObject({
    format: z.literal(PAPER_FORMAT),
    name: text,
    title: text,
    /** URLs of the paper and of the files that the numbers were read from. */
    sources: z.array(text).min(1),
    /** Which version of the paper or of its data. */
    version: text,
    date,
    assumptions: z.array(text).default([]),
    /** Machines of this paper alone, by the name that set-ups give as their stack. */
    stacks: z.record(z.string(), z.strictObject(machineFields)).default({}),
    setups: z.record(z.string(), setupSchema),
    cells: z.array(cellSchema).min(1),
    sensitivity: z.array(sensitivitySchema).default([]),
    /** Headlines that are not simulated, and why. */
    left: z.array(z.strictObject({ claim: text, why: text })).default([]),
  })
  .superRefine(({ setups, cells, sensitivity }, context) => {
    const complain = (path: (string | number)[], message: string): void =>
      context.addIssue({ code: 'custom', path, message });
    const names = cells.map(({ table, cell }) => `${table}: ${cell}`);
    cells.forEach((cell, at) => {
      for (const { use } of [cell.setup, ...(cell.against ? [cell.against.setup] : [])])
        if (!Object.hasOwn(setups, use)) complain(['cells', at, 'setup', 'use'], `no set-up named ${use}`);
      if (names.indexOf(names[at]) !== at) complain(['cells', at], `${names[at]} stands twice`);
    });
    sensitivity.forEach(({ cell, of }, at) => {
      if (!names.includes(cell)) complain(['sensitivity', at, 'cell'], `no cell ${cell}`);
      else if (of !== 'setup' && cells[names.indexOf(cell)].against === undefined)
        complain(['sensitivity', at, 'of'], `${cell} is compared with nothing`);
    });
  });
export type Paper = z.infer<typeof paperSchema>;
