// Builds dist/: compiles the TypeScript (tests left out), then bundles the page's client (scripts/build-viz.js).
// npm runs it as `prepare`, so it needs nothing beyond the dev dependencies. The old dist/ stays usable until the
// new one is complete; type errors are printed and fail the build.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const dist = join(root, 'dist');
const staging = join(root, `dist.building-${process.pid}`);

// In a clone, `npx kvtier` first links the clone into npm's cache and so runs `prepare`. Nothing to do when built; and
// before `npm ci` nothing can be done: a failure would leave npm a half-made link that it stumbles over ever after,
// while bin/kvtier.js says what is missing.
const isInstalled = existsSync(join(root, 'node_modules', 'typescript'));
const isBuilt = existsSync(join(dist, 'cli', 'main.js'));
if (process.env.npm_command === 'exec' && (isBuilt || !isInstalled)) process.exit(0);

const fail = (message) => {
  rmSync(staging, { recursive: true, force: true });
  process.stderr.write(`build: ${message}\n`);
  process.exit(1);
};

/** Runs a Node script; its output is shown only when it fails. */
const runNode = (script, args) => {
  const done = spawnSync(process.execPath, [script, ...args], { cwd: root, encoding: 'utf8' });
  if (done.error) return { ok: false, output: done.error.message };
  return { ok: done.status === 0, output: `${done.stdout}${done.stderr}`.trim() };
};

const compilerPath = () => {
  try {
    const manifestPath = createRequire(import.meta.url).resolve('typescript/package.json');
    const manifest = createRequire(import.meta.url)(manifestPath);
    return join(dirname(manifestPath), manifest.bin.tsc);
  } catch {
    return fail('the TypeScript compiler is missing; run `npm ci` (with dev dependencies) first');
  }
};

const compile = () => {
  const { ok, output } = runNode(compilerPath(), ['-p', 'tsconfig.build.json', '--outDir', staging]);
  if (!existsSync(join(staging, 'cli', 'main.js'))) fail(`tsc wrote no cli/main.js\n${output}`);
  return ok ? '' : output;
};

/** Puts the new tree in place of the old one; a reader sees one or the other for all but an instant. */
const swap = () => {
  const old = `${staging}-old`;
  if (existsSync(dist)) renameSync(dist, old);
  renameSync(staging, dist);
  rmSync(old, { recursive: true, force: true });
};

const alive = (pid) => {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return error.code === 'EPERM';
  }
};

for (const name of readdirSync(root)) {
  // What a killed build left behind.
  const owner = /^dist\.building-(\d+)/.exec(name)?.[1];
  if (owner !== undefined && !alive(Number(owner)))
    rmSync(join(root, name), { recursive: true, force: true });
}

const errors = compile();
swap();
const vizScript = join(root, 'scripts', 'build-viz.js');
if (existsSync(vizScript)) {
  const viz = runNode(vizScript, []);
  if (!viz.ok) fail(`the page's client did not build\n${viz.output}`);
}
if (errors !== '') fail(`type errors\n${errors}`);
