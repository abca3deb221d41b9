/**
 * The machine that a paper measured on: a hardware profile and a software stack of the catalogs, with the paper's own
 * constants laid over them. Fitted constants stay apart, so that a fit can replace them.
 */
import { loadProfile, loadStack } from '../../sim/hardware/load.ts';
import type { Profile, Stack } from '../../sim/hardware/schema.ts';
import type { PaperStack } from './schema.ts';

export interface PaperMachine {
  readonly hardware: Profile;
  readonly stack: Stack;
}

type Tree = { [field: string]: unknown };

const isTree = (value: unknown): value is Tree => typeof value === 'object' && value !== null;

interface Constant {
  readonly value: number;
  readonly status: string;
  readonly source: string;
  readonly date: string;
  readonly how: string;
}

/** Puts a constant where its path leads, optional parts made on the way; the schemas refuse a path to nowhere. */
const put = (tree: Tree, path: string, constant: Constant): void => {
  const fields = path.split('.');
  const last = fields.pop() ?? '';
  let at = tree;
  for (const field of fields) {
    const next = at[field] ?? {};
    at[field] = next;
    if (isTree(next)) at = next;
  }
  at[last] = constant;
};

/** `values` replaces fitted constants by their position; without it they have the values in the file. */
export const machineOf = (paperStack: PaperStack, values?: readonly number[]): PaperMachine => {
  const { name, stated, fitted } = paperStack;
  const tree = structuredClone({
    hardware: loadProfile(paperStack.hardware),
    stack: loadStack(paperStack.stack),
  }) as unknown as Tree;
  const where = `validate/papers/stacks/${name}.json`;
  for (const { path, value, status, source, date, how } of stated)
    put(tree, path, { value, status, source, date, how });
  fitted.forEach(({ path, value, how, paper, cells }, at) => {
    const source = `fitted on ${paper}: ${cells.join('; ')}`;
    put(tree, path, { value: values?.[at] ?? value, status: 'fitted', source, date: FITTED_DATE, how });
  });
  return {
    hardware: loadProfile(tree.hardware as object, where),
    stack: loadStack(tree.stack as object, where),
  };
};

/** Profiles want a date of every number; when a fit was run changes nothing about it. */
const FITTED_DATE = '2026-11';
