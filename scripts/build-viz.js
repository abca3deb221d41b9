// Bundles the report page's client (viz/app) into one script and one style sheet, minified, with nothing to load.
// Usage: node scripts/build-viz.js [--out DIR]   (default dist/viz: client.js and client.css)
import { readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'vite';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const entry = join(root, 'viz/app/main.ts');

/** The style sheet joins the bundle here, so that the TypeScript sources stay plain modules. */
const withStyle = {
  name: 'kvtier-report-style',
  transform: (code, id) => (id === entry ? { code: `import './style.css';\n${code}`, map: null } : null),
};

/** An inline script or style ends at its closing tag wherever that stands, so the text must not hold one. */
const assertInlinable = (file) => {
  const text = readFileSync(file, 'utf8');
  for (const token of ['</script', '</style', '<!--']) {
    if (text.includes(token)) throw new Error(`${file} contains ${token}, which would end an inline element`);
  }
  return text.length;
};

export const buildViz = async (outDir = join(root, 'dist/viz')) => {
  await build({
    root: join(root, 'viz/app'),
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
        fileName: () => 'client.js',
        cssFileName: 'client',
      },
    },
  });
  return ['client.js', 'client.css'].map((name) => ({ name, chars: assertInlinable(join(outDir, name)) }));
};

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const at = process.argv.indexOf('--out');
  const files = await buildViz(at < 0 ? undefined : resolve(process.argv[at + 1]));
  for (const { name, chars } of files) console.error(`${name} ${(chars / 1000).toFixed(1)} kB`);
}
