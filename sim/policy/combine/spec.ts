/**
 * Combinations as text: `stack(snapkv:budgetTokens=1024,quest)`. The grammar, and the plug-in that such a name stands
 * for: its parameters are those of the combinator, and of each part under the part's own name.
 *   spec = name [ '(' spec { ',' spec } ')' ] [ ':' param '=' value { ';' param '=' value } ]
 */
import * as z from 'zod';
import { SimError } from '../../error.ts';
import { unknownName } from '../../near-names.ts';
import type { PolicyPlugin } from '../policy.ts';
import { catalog } from './catalog.generated.ts';
import type { Combinator, Part } from './combinator.ts';

export interface PolicySpec {
  readonly name: string;
  /** Empty for a plain policy. */
  readonly parts: readonly PolicySpec[];
  /** Text of each parameter, in order. */
  readonly params: readonly (readonly [name: string, text: string])[];
}

const combinators = catalog as unknown as Readonly<Record<string, Combinator>>;

const refuse = (text: string, expected: string): SimError =>
  new SimError('invalid-input', `policy ${text}: expected ${expected}`);

const OPENING = '([{';
const CLOSING = ')]}';

/** Splits at a separator that stands outside all brackets. Throws SimError when brackets do not match. */
const splitOutside = (text: string, separator: string): readonly string[] => {
  const pieces = [''];
  let depth = 0;
  for (const char of text) {
    if (OPENING.includes(char)) depth++;
    if (CLOSING.includes(char)) depth--;
    if (depth < 0) throw refuse(text, 'no closing bracket without its opening one');
    if (char === separator && depth === 0) pieces.push('');
    else pieces[pieces.length - 1] += char;
  }
  if (depth > 0) throw refuse(text, 'a closing bracket for each opening one');
  return pieces;
};

/** True for the name of a combination, which holds its parts in parentheses. */
export const isCombination = (name: string): boolean => name.includes('(');

export const parseSpec = (text: string): PolicySpec => {
  const [head, ...rest] = splitOutside(text.trim(), ':');
  const params = (rest.length === 0 ? [] : splitOutside(rest.join(':'), ';')).map((param) => {
    const at = param.indexOf('=');
    if (at <= 0) throw refuse(text, `param=value after the colon, got '${param}'`);
    return [param.slice(0, at).trim(), param.slice(at + 1).trim()] as const;
  });
  const open = head.indexOf('(');
  if (open < 0) return { name: head.trim(), parts: [], params };
  const close = head.lastIndexOf(')');
  if (head.slice(close + 1).trim() !== '') throw refuse(text, `nothing between ')' and ':'`);
  const parts = splitOutside(head.slice(open + 1, close), ',').map(parseSpec);
  // perHead, as code says it, is per-head on the command line.
  const name = head
    .slice(0, open)
    .trim()
    .replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  return { name, parts, params };
};

/** The name without parameters, which stand in the config. */
export const nameOfSpec = ({ name, parts }: PolicySpec): string =>
  parts.length === 0 ? name : `${name}(${parts.map(nameOfSpec).join(',')})`;

const combinatorOf = ({ name, parts }: PolicySpec): Combinator => {
  if (!Object.hasOwn(combinators, name)) {
    throw unknownName('combinator', name, Object.keys(combinators), 'combinators');
  }
  const found = combinators[name];
  const [least, most] = found.parts;
  if (parts.length < least || parts.length > most) {
    const count = least === most ? String(least) : `${least} to ${most}`;
    throw refuse(`${name}(…)`, `${count} policies in the parentheses, got ${parts.length}`);
  }
  return found;
};

/** The plug-in of a combination; `find` gives those of plain policies. */
export const combinationOf = (text: string, find: (name: string) => PolicyPlugin): PolicyPlugin => {
  const spec = parseSpec(text);
  const name = nameOfSpec(spec);
  const combinator = combinatorOf(spec);
  const inner = spec.parts.map((part) => {
    const key = nameOfSpec(part);
    return { key, plugin: part.parts.length === 0 ? find(key) : combinationOf(key, find) };
  });
  const keys = inner.map(({ key }) => key);
  const twice = keys.find((key, at) => keys.indexOf(key) !== at);
  if (twice !== undefined) throw refuse(name, `different policies, got ${twice} twice`);
  const config = z.object({
    ...combinator.config.shape,
    ...Object.fromEntries(inner.map(({ key, plugin }) => [key, plugin.config.prefault({})])),
  });
  return {
    name,
    title: combinator.title,
    family: inner[inner.length - 1].plugin.family,
    source: inner.map(({ plugin }) => plugin.source).join('; '),
    requires: [...new Set(inner.flatMap(({ plugin }) => plugin.requires))],
    config,
    create(given: Readonly<Record<string, unknown>>, world) {
      const parts = inner.map(
        ({ key, plugin }): Part => ({ name: key, plugin, config: given[key] as Part['config'] }),
      );
      return combinator.create(parts, combinator.config.parse(given), world);
    },
  };
};
