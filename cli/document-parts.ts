/**
 * Parts of the documents that are made from the code, so that they cannot rot: `npm run docs` writes them between
 * `<!-- made: NAME -->` and `<!-- end -->`, and a test fails when one is stale.
 */

import { catalog } from '../sim/policy/catalog.generated.ts';
import { catalog as combinators } from '../sim/policy/combine/catalog.generated.ts';
import type { PolicyPlugin } from '../sim/policy/policy.ts';
import { flagSpecs } from './flags.ts';
import { policyTemplate } from './new-policy.ts';

const table = (header: readonly string[], rows: readonly (readonly string[])[]): string =>
  [header, header.map(() => '---'), ...rows]
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`)
    .join('\n');

/** Each parameter with its default, where it has one. */
const parameters = (config: PolicyPlugin['config']): string =>
  flagSpecs(config)
    .map(({ field, defaultValue }) =>
      defaultValue === undefined ? `\`${field}\`` : `\`${field}\` ${defaultValue}`,
    )
    .join(', ') || '–';

const policyTable = (): string => {
  const plugins = Object.values(catalog as unknown as Readonly<Record<string, PolicyPlugin>>);
  const rows = plugins.map(({ name, title, family, source, requires, prefers = [], config, atBudget }) => [
    `\`${name}\``,
    title,
    family,
    source,
    [...requires, ...prefers.map((field) => `(${field})`)].join(' ') || '–',
    atBudget === undefined ? '–' : 'yes',
    parameters(config),
  ]);
  return table(
    ['policy', 'what it is', 'family', 'source', 'trace fields', 'token budget', 'parameters'],
    rows,
  );
};

const combinatorTable = (): string =>
  table(
    ['combinator', 'policies', 'what it makes of them', 'parameters'],
    Object.values(combinators).map(({ name, title, parts: [least, most], config }) => [
      `\`${name}(…)\``,
      least === most ? String(least) : `${least} to ${most}`,
      title,
      parameters(config),
    ]),
  );

export const documentParts: Readonly<Record<string, () => string>> = {
  'policy-template': () => `\`\`\`ts\n${policyTemplate('every-other.ts', 'every-other')}\`\`\``,
  'policy-table': policyTable,
  'combinator-table': combinatorTable,
};

const MADE = /(<!-- made: ([\w-]+) -->\n)[\s\S]*?(\n<!-- end -->)/g;

/** A document with its made parts as they are now. Throws when it asks for a part that is not known. */
export const withParts = (text: string): string =>
  text.replace(MADE, (_, opening: string, name: string, closing: string) => {
    const make = documentParts[name];
    if (make === undefined)
      throw new Error(`no part '${name}'; known: ${Object.keys(documentParts).join(', ')}`);
    return `${opening}${make()}${closing}`;
  });
