// Bundles each page's client into one script and one style sheet, minified, with nothing to load: the report of a
// comparison (viz/app: client.js, client.css), the picture of an inspection (viz/inspect) and that of a validation.
// Usage: node scripts/build-viz.js [--out DIR] [--only NAME]   (default: all, into dist/viz)
import { readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'vite';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const pages = [
  { name: 'client', folder: 'viz/app' },
  { name: 'inspect', folder: 'viz/inspect' },
  { name: 'validation', folder: 'viz/validation' },
].map(({ name, folder }) => ({ name, folder: join(root, folder), entry: join(root, folder, 'main.ts') }));

/** The style sheet joins the bundle here, so that the TypeScript sources stay plain modules. */
const withStyle = {
  name: 'kvtier-report-style',
  transform: (code, id) =>
    pages.some(({ entry }) => id === entry) ? { code: `import './style.css';\n${code}`, map: null } : null,
};

/** An inline script or style ends at its closing tag wherever that stands, so the text must not hold one. */
const assertInlinable = (file) => {
  const text = readFileSync(file, 'utf8');
  for (const token of ['</script', '</style', '<!--']) {
    if (text.includes(token)) throw new Error(`${file} contains ${token}, which would end an inline element`);
  }
  return text.length;
};

const buildPage = async ({ name, folder, entry }, outDir) => {
  await build({
    root: folder,
    configFile: false,
    logLevel: 'warn',
    publicDir: false,
    plugins: [withStyle],
    build: {
      outDir,
      emptyOutDir: false,
      target: 'es2022',
      cssTarget: 'chrome123',
      minify: true,
      cssMinify: true,
      copyPublicDir: false,
      lib: {
        entry,
        formats: ['iife'],
        name: 'kvtierReport',
        fileName: () => `${name}.js`,
        cssFileName: name,
      },
    },
  });
  return [`${name}.js`, `${name}.css`].map((file) => ({
    name: file,
    chars: assertInlinable(join(outDir, file)),
  }));
};

/** Builds the pages, or the one named `only`, into `outDir`; the files with their lengths. */
export const buildViz = async (outDir = join(root, 'dist/viz'), only = undefined) => {
  const files = [];
  for (const page of pages) {
    if (only === undefined || page.name === only) files.push(...(await buildPage(page, outDir)));
  }
  return files;
};

const flag = (name) => {
  const at = process.argv.indexOf(name);
  return at < 0 ? undefined : process.argv[at + 1];
};

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const out = flag('--out');
  const files = await buildViz(out === undefined ? undefined : resolve(out), flag('--only'));
  for (const { name, chars } of files) console.error(`${name} ${(chars / 1000).toFixed(1)} kB`);
}
