// Refreshes the outputs that the documents show: a `text` block under `<!-- output -->` is what the `sh` block before
// it, under `<!-- test -->`, prints; parts under `<!-- made: NAME -->` come from cli/document-parts.ts. A test fails when one is stale; this rewrites them from the built package (`npm run docs`).
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
// Neither block may reach over a fence: what lies between would be run as a script.
const INSIDE = '(?:(?!\\n```)[^])*';
const BLOCK = new RegExp(
  `(<!-- test -->\\s*\`\`\`sh\\n(${INSIDE})\\n\`\`\`\\s*<!-- output -->\\s*\`\`\`text\\n)${INSIDE}(\\n\`\`\`)`,
  'g',
);

const run = (script) => {
  const bin = `kvtier() { "${process.execPath}" "${join(root, 'bin/kvtier.js')}" "$@"; }`;
  const done = spawnSync('bash', ['-euo', 'pipefail', '-c', `${bin}\n${script}`], {
    cwd: root,
    encoding: 'utf8',
  });
  if (done.status !== 0) throw new Error(`${script}\n${done.stderr}`);
  return done.stdout.trimEnd();
};

const { withParts } = await import('../dist/cli/document-parts.js');
const documents = ['README.md', ...readdirSync(join(root, 'docs')).map((name) => `docs/${name}`)];
for (const document of documents.filter((path) => path.endsWith('.md'))) {
  const path = join(root, document);
  const before = readFileSync(path, 'utf8');
  // A function, because an output may hold `$`.
  const after = withParts(before).replace(
    BLOCK,
    (_, opening, script, closing) => `${opening}${run(script)}${closing}`,
  );
  if (after !== before) writeFileSync(path, after);
}
