/**
 * `npm run fit-papers [STACK …]`: fits the constants of the papers' stacks on their calibration cells and writes them
 * into validate/papers/stacks/*.json. Run `npm run catalog` and a build afterwards.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { fitStack } from './fit.ts';
import { loadPaperStack, paperStackNames } from './papers.ts';

for (const name of process.argv.length > 2 ? process.argv.slice(2) : paperStackNames) {
  const path = `validate/papers/stacks/${name}.json`;
  const file = JSON.parse(readFileSync(path, 'utf8')) as { fitted?: { path: string; value: number }[] };
  const fitted = file.fitted ?? [];
  fitStack(loadPaperStack(name)).forEach((value, at) => {
    process.stdout.write(`${name}: ${fitted[at].path} ${fitted[at].value} -> ${value}\n`);
    fitted[at].value = value;
  });
  writeFileSync(`${path}.new`, `${JSON.stringify(file, null, 2)}\n`);
  renameSync(`${path}.new`, path);
}
