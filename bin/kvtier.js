#!/usr/bin/env node
// The executable: checks the Node version before anything that needs it is parsed, then hands over to dist/.
import { existsSync } from 'node:fs';

const MINIMUM = [20, 19];
const [major, minor] = process.versions.node.split('.').map(Number);
const main = new URL('../dist/cli/main.js', import.meta.url);

const refuse = (message) => {
  process.stderr.write(`kvtier: ${message}\n`);
  process.exitCode = 1;
};

if (major < MINIMUM[0] || (major === MINIMUM[0] && minor < MINIMUM[1])) {
  refuse(`needs Node ${MINIMUM.join('.')} or later; this is ${process.versions.node} (${process.execPath})`);
} else if (!existsSync(main)) {
  refuse('dist/ is missing: this checkout has not been built; run `npm ci` or `npm run build` in its folder');
} else {
  const { main: run } = await import(main.href);
  await run(process.argv.slice(2));
}
