/**
 * The machine that a paper measured on: a hardware profile and a software stack of the catalogs, with the paper's own
 * constants laid over them. Fitted constants stay apart, so that a fit can replace them.
 */
import { loadProfile, loadStack } from '../../sim/hardware/load.ts';
import { type MachineDescription, put } from '../overlay.ts';
import type { PaperStack } from './schema.ts';

/**
 * `values` replaces fitted constants by their position; without it they have the values in the file. Errors name `where`.
 */
export const machineOf = (
  paperStack: PaperStack,
  values?: readonly number[],
  where = `validate/papers/stacks/${paperStack.name}.json`,
): MachineDescription => {
  const { stated, fitted } = paperStack;
  const tree = structuredClone({
    hardware: loadProfile(paperStack.hardware),
    stack: loadStack(paperStack.stack),
  });
  for (const { path, value, status, source, date, how } of stated)
    put(tree, path, { value, status, source, date, how });
  fitted.forEach(({ path, value, how, paper, cells }, at) => {
    const source = `fitted on ${paper}: ${cells.join('; ')}`;
    put(tree, path, { value: values?.[at] ?? value, status: 'fitted', source, date: FITTED_DATE, how });
  });
  return {
    hardware: loadProfile(tree.hardware, where),
    stack: loadStack(tree.stack, where),
  };
};

/** Profiles want a date of every number; when a fit was run changes nothing about it. */
const FITTED_DATE = '2026-11';
