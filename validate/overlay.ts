/** Numbers laid over a profile and a stack by path: what fits and papers change, with where each number is from. */
import type { Profile } from '../sim/hardware/schema.ts';
import type { Stack } from '../sim/hardware/stack-schema.ts';

export interface MachineDescription {
  readonly hardware: Profile;
  readonly stack: Stack;
}

export interface Constant<Value = number> {
  readonly value: Value;
  readonly status: string;
  readonly source: string;
  readonly date: string;
  readonly how?: string;
}

type Tree = { [field: string]: unknown };

const isTree = (value: unknown): value is Tree => typeof value === 'object' && value !== null;

/** Names of kernels hold dots; `[…]` in a path keeps such a name in one piece: "stack.kernels[score.gate].startNs". */
const fieldsOf = (path: string): string[] =>
  [...path.matchAll(/\[([^\]]+)\]|[^.[\]]+/g)].map(([text, inBrackets]) => inBrackets ?? text);

/** Puts a constant where its path leads, optional parts made on the way; the schemas refuse a path to nowhere. */
export const put = (
  description: MachineDescription,
  path: string,
  constant: Constant<number | boolean>,
): void => {
  const fields = fieldsOf(path);
  const last = fields.pop() ?? '';
  let at = description as unknown as Tree;
  for (const field of fields) {
    const next = at[field] ?? {};
    at[field] = next;
    if (isTree(next)) at = next;
  }
  at[last] = constant;
};

/** The number at a path; undefined where the path leads nowhere. */
export const valueAt = (description: MachineDescription, path: string): number | undefined => {
  let at: unknown = description;
  for (const field of fieldsOf(path)) at = isTree(at) ? at[field] : undefined;
  return isTree(at) && typeof at.value === 'number' ? at.value : undefined;
};
