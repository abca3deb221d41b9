/**
 * Which known names look like the one that was asked for: for the one-line error of an unknown name.
 * Isomorphic and deterministic; ties keep the order of the list.
 */
import { SimError } from './error.ts';

/** Edits (insert, delete, substitute) between two names, case and punctuation ignored. */
const editDistance = (a: string, b: string): number => {
  let previous = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= b.length; column += 1) {
      const substitute = previous[column - 1] + (a[row - 1] === b[column - 1] ? 0 : 1);
      current.push(Math.min(previous[column] + 1, current[column - 1] + 1, substitute));
    }
    previous = current;
  }
  return previous[b.length];
};

const plain = (name: string): string => name.toLowerCase().replace(/[^a-z0-9.]/g, '');

/** Up to `limit` names that contain the asked one, or differ from it in at most a third of its letters. */
export const nearNames = (asked: string, known: readonly string[], limit = 4): readonly string[] => {
  const wanted = plain(asked);
  return known
    .map((name, index) => {
      const candidate = plain(name);
      const contains = wanted.length > 1 && (candidate.includes(wanted) || wanted.includes(candidate));
      // `h101` is near `h100-sxm`: the beginning of a name counts nearly as much as the whole.
      const beginning = editDistance(wanted, candidate.slice(0, wanted.length)) + 0.5;
      return { name, index, distance: contains ? 0.5 : Math.min(editDistance(wanted, candidate), beginning) };
    })
    .filter((entry) => entry.distance <= Math.max(2, wanted.length / 3))
    .sort((a, b) => a.distance - b.distance || a.index - b.index)
    .slice(0, limit)
    .map((entry) => entry.name);
};

/** The error for a name that is in no catalog: says what was asked, what looks like it, and where all are listed. */
export const unknownName = (
  kind: string,
  asked: string,
  known: readonly string[],
  listed: string,
): SimError => {
  const near = nearNames(asked, known);
  const hint = near.length > 0 ? `did you mean ${near.join(', ')}?` : `known: ${known.join(', ')}`;
  return new SimError('unknown-name', `unknown ${kind} '${asked}': ${hint} (kvtier list ${listed})`);
};

/** One line for the first problem of a zod error: field and expectation. */
export const firstIssue = (
  issues: readonly { readonly path: readonly PropertyKey[]; readonly message: string }[],
) => {
  const [issue] = issues;
  const field = issue.path.map(String).join('.') || '(top level)';
  const more = issues.length > 1 ? ` (and ${issues.length - 1} more)` : '';
  return `field ${field}: ${issue.message}${more}`;
};
