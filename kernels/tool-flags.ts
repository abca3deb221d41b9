/** What programs for developers share: what their flags may say, and one line for what is wrong. */
import { BACKENDS, type BackendName, KernelError } from './backend.ts';
import { catalog } from './calls.generated.ts';
import { invalid } from './check-call.ts';

export const backendOf = (name: string): BackendName => {
  const found = BACKENDS.find((known) => known === name);
  if (found === undefined) throw invalid(`--backend ${name}: expected one of ${BACKENDS.join(', ')}`);
  return found;
};

/** The kernels of a list with commas; all without one. */
export const kernelsOf = (list: string | undefined): readonly string[] => {
  const names = list?.split(',') ?? Object.keys(catalog);
  for (const name of names)
    if (!Object.hasOwn(catalog, name)) throw invalid(`--kernels ${name}: expected names of kernels/calls`);
  return names;
};

/** An integer of `least` or more. */
export const integerOf = (flag: string, text: string, least: number): number => {
  const value = Number(text);
  if (text.trim() === '' || !Number.isSafeInteger(value) || value < least)
    throw invalid(`--${flag} ${text}: expected an integer of ${least} or more`);
  return value;
};

/** Exit codes of a program: 0, 1 where it says false, 2 with one line for bad input or a backend that can't be had. */
export const runTool = async (main: () => Promise<boolean>): Promise<void> => {
  try {
    if (!(await main())) process.exitCode = 1;
  } catch (error) {
    const { code = '' } = error as { readonly code?: string };
    if (!(error instanceof KernelError) && !code.startsWith('ERR_PARSE_ARGS')) throw error;
    process.stderr.write(`${(error as Error).message}\n`);
    process.exitCode = 2;
  }
};
