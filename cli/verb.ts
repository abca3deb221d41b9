/**
 * What one verb of the command line is: a name, a zod schema that its flags derive from, and a run function.
 * cli/main.ts turns the schema into flags (`contextTokens` would be `--context-tokens`; every description of the
 * schema becomes the flag's help), parses, runs, and alone prints errors and exits.
 */
import type * as z from 'zod';

export interface Progress {
  /** Absolute position, 0..total. Drawn on stderr, only on a TTY. */
  update(done: number): void;
  end(): void;
}

export interface VerbContext {
  /** True when stdout must carry one JSON document and nothing else. */
  readonly json: boolean;
  /** Text for people, on stdout; ignored with --json. */
  print(text: string): void;
  /** The verb's one JSON document; printed only with --json. */
  printJson(document: unknown): void;
  /** A line for people on stderr (warnings, fallbacks); always shown. */
  note(text: string): void;
  progress(label: string, total: number): Progress;
  /** Terminal width in columns; 100 when stdout is no terminal. */
  readonly columns: number;
}

export interface Verb<S extends z.ZodObject = z.ZodObject> {
  readonly name: string;
  readonly summary: string;
  /** Positional arguments by the schema's field that each fills, in order; optional in the schema = optional here. */
  readonly positionals?: readonly string[];
  /** Flags by their camelCase field. Arrays come from comma lists or repeated flags; numbers are coerced. */
  readonly flags: S;
  /** Shown by --help; each must run as written. */
  readonly examples: readonly string[];
  run(flags: z.infer<S>, context: VerbContext): Promise<void>;
}

/** Wrong usage or bad input: one line that names file, field and expectation; exit 2. */
export class UsageError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'UsageError';
  }
}
