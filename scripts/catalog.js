// Writes the generated catalogs: each plug-in folder becomes one file that lists what is in it, sorted by name.
// `--check` writes nothing and fails when a catalog is stale. The table FOLDERS is the only place that knows them.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const rootFlag = process.argv.indexOf('--root');
/** `--root DIR` works on another tree; the tests use it. */
const root = rootFlag > 0 ? process.argv[rootFlag + 1] : join(dirname(fileURLToPath(import.meta.url)), '..');

/**
 * folder: where the plug-ins lie; output: the file written from them.
 * symbol: a `.ts` file that exports a const of this name is an entry; others are ignored.
 * json: `.json` files are entries too, inlined (Node 20 warns on JSON modules, and the page reads them as well).
 * lazy: list name, summary and a dynamic import instead of the module, so that listing loads nothing.
 * header: also write the entries' names, positions and arguments as a C header, from the literals of their source.
 */
const FOLDERS = [
  { folder: 'cli', symbol: 'verb', lazy: true, output: 'cli/catalog.generated.ts' },
  { folder: 'sim/policy/policies', symbol: 'policy', output: 'sim/policy/catalog.generated.ts' },
  { folder: 'sim/policy/combine', symbol: 'combinator', output: 'sim/policy/combine/catalog.generated.ts' },
  { folder: 'sim/policy/eviction', symbol: 'eviction', output: 'sim/policy/eviction/catalog.generated.ts' },
  { folder: 'sim/policy/codecs', symbol: 'codec', output: 'sim/policy/codecs/catalog.generated.ts' },
  { folder: 'sim/hardware/profiles', json: true, output: 'sim/hardware/catalog.generated.ts' },
  { folder: 'sim/hardware/stacks', json: true, output: 'sim/hardware/stacks.generated.ts' },
  { folder: 'sim/model/configs', json: true, output: 'sim/model/catalog.generated.ts' },
  {
    folder: 'traces/attention/presets',
    symbol: 'preset',
    json: true,
    output: 'traces/attention/presets.generated.ts',
  },
  {
    folder: 'traces/requests/formats',
    symbol: 'format',
    output: 'traces/requests/formats/catalog.generated.ts',
  },
  {
    folder: 'kernels/calls',
    symbol: 'call',
    output: 'kernels/calls.generated.ts',
    header: 'kernels/calls.generated.h',
  },
  { folder: 'validate/microbench', symbol: 'microbench', output: 'validate/microbench/catalog.generated.ts' },
  { folder: 'validate/papers', json: true, output: 'validate/papers/catalog.generated.ts' },
  { folder: 'validate/papers/stacks', json: true, output: 'validate/papers/stacks.generated.ts' },
];

const byCodeUnit = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
const camel = (name) => name.replace(/[^A-Za-z0-9]+(.)?/g, (_, next) => (next ?? '').toUpperCase());
const fail = (message) => {
  process.stderr.write(`catalog: ${message}\n`);
  process.exit(1);
};

/** The literal that follows `field:` in the source, quoted in any of the three ways; undefined when there is none. */
const literalOf = (source, field) => {
  const found = new RegExp(`^\\s*${field}:\\s*(['"\`])((?:\\\\.|(?!\\1)[^\\\\])*)\\1`, 'm').exec(source);
  return found?.[2].replace(/\\(.)/g, '$1');
};

const readEntries = ({ folder, symbol, json }) =>
  readdirSync(join(root, folder))
    .sort(byCodeUnit)
    .flatMap((file) => {
      const path = `${folder}/${file}`;
      if (json && file.endsWith('.json')) {
        return [{ name: file.slice(0, -'.json'.length), path, value: parseJson(path) }];
      }
      if (!symbol || !file.endsWith('.ts') || /\.(test|generated)\.ts$/.test(file)) return [];
      const source = readFileSync(join(root, path), 'utf8');
      if (!new RegExp(`^export const ${symbol}\\b`, 'm').test(source)) return [];
      return [{ name: file.slice(0, -'.ts'.length), path, source }];
    });

const parseJson = (path) => {
  try {
    return JSON.parse(readFileSync(join(root, path), 'utf8'));
  } catch (error) {
    return fail(`${path}: expected JSON: ${error.message}`);
  }
};

const importPath = (entry, output) => {
  const path = relative(dirname(output), entry.path).split('\\').join('/');
  return path.startsWith('.') ? path : `./${path}`;
};

/** Source of a verb up to and after its `export const verb`, so that no other object's `name:` is taken for its own. */
const lazyRow = (entry, output) => {
  const own = entry.source.slice(entry.source.search(/^export const verb\b/m));
  const name = literalOf(own, 'name');
  const summary = literalOf(own, 'summary');
  if (name === undefined || summary === undefined) {
    fail(`${entry.path}: expected literal \`name\` and \`summary\` in \`export const verb\``);
  }
  const load = `() => import('${importPath(entry, output)}').then((module) => module.verb)`;
  return {
    name,
    row: `  ${JSON.stringify(name)}: {\n    summary: ${JSON.stringify(summary)},\n    load: ${load},\n  },`,
  };
};

const renderRow = (entry, table) => {
  if (table.lazy) return lazyRow(entry, table.output);
  if (entry.value !== undefined) {
    // One line an entry: the JSON file is where it is read and edited, here a change shows as the line of its entry.
    return { name: entry.name, row: `  ${JSON.stringify(entry.name)}: ${JSON.stringify(entry.value)},` };
  }
  const local = camel(`${table.symbol}-${entry.name}`);
  return {
    name: entry.name,
    row: `  ${JSON.stringify(entry.name)}: ${local},`,
    line: `import { ${table.symbol} as ${local} } from '${importPath(entry, table.output)}';`,
  };
};

const render = (table) => {
  const rows = readEntries(table).map((entry) => renderRow(entry, table));
  rows.sort((a, b) => byCodeUnit(a.name, b.name));
  const twice = rows.find((row, at) => at > 0 && row.name === rows[at - 1].name);
  if (twice) fail(`${table.folder}: two entries are named ${twice.name}`);
  const lines = rows.flatMap((row) => (row.line ? [row.line] : []));
  return [
    `/** Generated by \`npm run catalog\` from ${table.folder}/; do not edit. */`,
    ...lines,
    ...(lines.length > 0 ? [''] : []),
    'export const catalog = {',
    ...rows.map((row) => row.row),
    '} as const;',
    ...(table.header ? ['', `export const digest = '${digestOf(callNames(table))}';`] : []),
    '',
  ].join('\n');
};

/** The strings of an array literal that follows `field:` in a source. */
const stringsOf = (entry, field) => {
  const found = new RegExp(`^  ${field}: \\[([^\\]]*)\\]`, 'm').exec(entry.source);
  if (found === null) fail(`${entry.path}: expected \`${field}\` as an array of string literals`);
  return [...found[1].matchAll(/'([^']*)'/g)].map(([, text]) => text);
};

const macro = (...parts) =>
  parts
    .join('-')
    .replace(/[a-z0-9](?=[A-Z])/g, '$&_')
    .replace(/[^A-Za-z0-9]+/g, '_')
    .toUpperCase();

/** C names of kernel calls: KVT_NAME is a position, KVT_NAME_REF_X, _INT_X and _REAL_X positions of arguments. */
const callNames = (table) =>
  readEntries(table).flatMap((entry, at) => [
    `#define ${macro('KVT', entry.name)} ${at}`,
    ...['ref', 'int', 'real'].flatMap((kind) => {
      const names = stringsOf(entry, `${kind}s`).map((name) => macro('KVT', entry.name, kind, name));
      return names.length > 0 ? [`enum { ${names.join(', ')} };`] : [];
    }),
  ]);

const digestOf = (lines) => createHash('sha256').update(lines.join('\n')).digest('hex').slice(0, 16);

const renderHeader = (table) => {
  const entries = readEntries(table);
  const lines = callNames(table);
  const names = entries.map((entry) => `  X(${macro('KVT', entry.name)}, "${entry.name}")`);
  return [
    `// Generated by \`npm run catalog\` from ${table.folder}/; do not edit.`,
    '#ifndef KVTIER_CALLS_H',
    '#define KVTIER_CALLS_H',
    '',
    `#define KVT_CALLS_DIGEST "${digestOf(lines)}"`,
    `#define KVT_KERNELS ${entries.length}`,
    '',
    ...lines,
    '',
    `#define KVT_FOR_EACH_KERNEL(X) \\\n${names.join(' \\\n')}`,
    '',
    '#endif',
    '',
  ].join('\n');
};

const check = process.argv.includes('--check');
const stale = [];

const update = (path, text) => {
  const output = join(root, path);
  if (existsSync(output) && readFileSync(output, 'utf8') === text) return;
  stale.push(path);
  if (check) return;
  mkdirSync(dirname(output), { recursive: true });
  writeFileSync(`${output}.new`, text);
  renameSync(`${output}.new`, output);
};

for (const table of FOLDERS) {
  if (!existsSync(join(root, table.folder))) continue;
  update(table.output, render(table));
  if (table.header) update(table.header, renderHeader(table));
}
if (check && stale.length > 0) fail(`stale: ${stale.join(', ')}; run \`npm run catalog\``);
