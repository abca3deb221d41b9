/** The collection: papers by name, and the stacks that their set-ups name; checked when they are asked for. */
import type * as z from 'zod';
import { SimError } from '../../sim/error.ts';
import { firstIssue, unknownName } from '../../sim/near-names.ts';
import { catalog as paperFiles } from './catalog.generated.ts';
import { machineOf } from './machine.ts';
import {
  PAPER_STACK_FORMAT,
  type Paper,
  type PaperStack,
  paperSchema,
  paperStackSchema,
  type Setup,
  type SetupReference,
  setupSchema,
} from './schema.ts';
import { catalog as stackFiles } from './stacks.generated.ts';

export const paperNames: readonly string[] = Object.keys(paperFiles);
export const paperStackNames: readonly string[] = Object.keys(stackFiles);

const check = <T>(schema: z.ZodType<T>, json: unknown, file: string): T => {
  const parsed = schema.safeParse(json);
  if (!parsed.success) throw new SimError('invalid-input', `${file}: ${firstIssue(parsed.error.issues)}`);
  return parsed.data;
};

/** Throws SimError 'unknown-name' with near names, 'invalid-input' with file, field and expectation. */
export const loadPaper = (name: string): Paper => {
  const files: Readonly<Record<string, unknown>> = paperFiles;
  if (!Object.hasOwn(files, name)) throw unknownName('paper', name, paperNames, 'papers');
  return check(paperSchema, files[name], `validate/papers/${name}.json`);
};

/** A paper from a file of the user's own; its stacks and machines must exist before anything runs. Throws as loadPaper. */
export const checkPaper = (json: unknown, file: string): Paper => {
  const paper = check(paperSchema, json, file);
  const known = [...Object.keys(paper.stacks), ...paperStackNames];
  for (const [name, { stack }] of Object.entries(paper.setups)) {
    if (!known.includes(stack))
      throw new SimError(
        'invalid-input',
        `${file}: field setups.${name}.stack: expected a name in stacks or one of ${known.join(', ')}; got ${stack}`,
      );
    machineOf(stackOf(paper, stack), undefined, file);
  }
  return paper;
};

export const loadPaperStack = (name: string): PaperStack => {
  const files: Readonly<Record<string, unknown>> = stackFiles;
  if (!Object.hasOwn(files, name)) throw unknownName('paper stack', name, paperStackNames, 'papers');
  return check(paperStackSchema, files[name], `validate/papers/stacks/${name}.json`);
};

/** The stack that a set-up names: the paper's own, or one of the collection. */
export const stackOf = (paper: Paper, name: string): PaperStack =>
  Object.hasOwn(paper.stacks, name)
    ? { format: PAPER_STACK_FORMAT, name, ...paper.stacks[name], fitted: [] }
    : loadPaperStack(name);

/** The set-up that a reference means: the named one with what differs; policy parameters are merged. */
export const resolveSetup = (paper: Paper, { use, ...changes }: SetupReference): Setup => {
  const base = paper.setups[use];
  const policy =
    changes.policy === undefined || changes.policy.name !== base.policy.name
      ? (changes.policy ?? base.policy)
      : { name: base.policy.name, config: { ...base.policy.config, ...changes.policy.config } };
  return check(setupSchema, { ...base, ...changes, policy }, `validate/papers/${paper.name}.json: ${use}`);
};
