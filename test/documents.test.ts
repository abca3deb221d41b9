/** Parts of the documents that are made from the code are fresh. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { documentParts, withParts } from '../cli/document-parts.ts';
import { root } from './scan.ts';

const documents = readdirSync(join(root, 'docs'))
  .filter((name) => name.endsWith('.md'))
  .map((name) => ({ name, text: readFileSync(join(root, 'docs', name), 'utf8') }));

// Judging all evidence takes ten seconds of a processor that has nothing else to do.
it.each(documents)('$name holds what the code says now (npm run docs)', { timeout: 180_000 }, ({ text }) => {
  expect(withParts(text)).toBe(text);
});

it('every part stands in some document, and an unknown one is refused', () => {
  const all = documents.map(({ text }) => text).join('\n');
  for (const name of Object.keys(documentParts)) expect(all).toContain(`<!-- made: ${name} -->`);
  expect(() => withParts('<!-- made: nothing -->\n\n<!-- end -->')).toThrow(/no part 'nothing'/);
});
