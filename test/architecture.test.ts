/**
 * The rules that the design rests on, checked on the text of the sources: who may import whom, no cycles, nothing
 * in the core that differs between machines, and the house style. docs/architecture.md says why.
 */
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { findCycle } from './cycles.ts';
import { filesUnder, readSource, resolveImport, root, type Source } from './scan.ts';

interface Floor {
  readonly floors: readonly string[];
  readonly packages: readonly string[];
  /** Folders of the floor that may import node: modules. */
  readonly node: readonly string[];
}

const D3 = ['d3'];
const PARSERS = ['hyparquet', 'hyparquet-writer', '@duckdb/node-api', 'yaml'];

/** What the files of a floor may import, tests apart; cli, bench and test may import anything. */
const FLOORS: Readonly<Record<string, Floor>> = {
  sim: { floors: ['sim'], packages: ['zod'], node: [] },
  kernels: { floors: ['kernels'], packages: ['zod'], node: ['kernels'] },
  traces: { floors: ['sim', 'traces'], packages: ['zod', ...PARSERS], node: ['traces'] },
  viz: { floors: ['sim', 'traces', 'viz'], packages: ['zod', ...D3], node: ['viz/report'] },
  validate: { floors: ['sim', 'traces', 'kernels', 'validate'], packages: ['zod'], node: ['validate'] },
};

/** Folders of sim/ from the ground up; a folder imports its own row and those before it. */
const SIM_ORDER = [
  ['engine', 'program', 'model', 'hardware'],
  ['fabric', 'trace', 'memory'],
  ['timing'],
  ['policy', 'quality'],
  ['decode'],
  ['serving'],
  ['run'],
  ['plan'],
];

const TRANSCENDENTAL =
  /\bMath\s*\.\s*(?:random|exp|expm1|log|log2|log10|log1p|pow|sin|cos|tan|asin|acos|atan|atan2|sinh|cosh|tanh|asinh|acosh|atanh|cbrt|hypot)\b/;
/** Powers of two and of literals are exact, BigInt too; a power of anything else is Math.pow by another name. */
const POWER = /(?<!\b2\s*)\*\*(?!\s*BigInt)(?!(?<=\b\d[\d_]*\s*\*\*)\s*\d)/;
/** The compiler keeps a host's own names (process, window …) out of sim/; these it would let pass. */
const HOST =
  /(?<![.\w])(?:Date|Intl|globalThis|WeakRef|FinalizationRegistry|Atomics)\b|\.toLocale\w*\(|\.localeCompare\(/;

const tests = (path: string): boolean => path.endsWith('.test.ts');
const generated = (path: string): boolean => path.endsWith('.generated.ts');
const folders = ['sim', 'kernels', 'traces', 'viz', 'validate', 'cli', 'bench', 'test', 'scripts', 'bin'];
const sources: readonly Source[] = folders
  .flatMap((folder) => filesUnder(folder, ['.ts', '.js']))
  .map(readSource);
const shipped = sources.filter(({ path }) => !tests(path) && !path.startsWith('test/'));
const floorOf = (path: string): string => path.slice(0, path.indexOf('/'));

/** Lines `path: text` for each source in which `find` sees something; the test expects none. */
const offences = (from: readonly Source[], find: (source: Source) => readonly string[]): readonly string[] =>
  from.flatMap((source) => find(source).map((text) => `${source.path}: ${text}`));

const linesMatching = (text: string, pattern: RegExp): readonly string[] =>
  text.split('\n').flatMap((line, at) => (pattern.test(line) ? [`line ${at + 1}: ${line.trim()}`] : []));

/** Row of a file of sim/; files in sim/ itself (errors, schemas) stand below all folders. */
const simRank = (path: string): number => {
  const part = path.split('/')[1];
  const row = SIM_ORDER.findIndex((parts) => parts.includes(part));
  return part.endsWith('.ts') ? 0 : row + 1;
};

describe('imports', () => {
  it('stay within what each floor may use', () => {
    const wrong = offences(shipped, ({ path, imports }) => {
      const floor = FLOORS[floorOf(path)];
      if (floor === undefined) return [];
      return imports.filter((specifier) => {
        const target = resolveImport(path, specifier);
        if (target !== undefined) return !floor.floors.includes(floorOf(target));
        if (specifier.startsWith('node:')) return !floor.node.some((folder) => path.startsWith(`${folder}/`));
        return !floor.packages.some((name) => specifier === name || specifier.startsWith(`${name}/`));
      });
    });
    expect(wrong).toEqual([]);
  });

  it('leave cli/ and the tests alone', () => {
    const wrong = offences(shipped, ({ path, imports }) =>
      imports.filter((specifier) => {
        const target = resolveImport(path, specifier);
        if (target === undefined) return false;
        const ownRoof = ['cli', 'bin'].includes(floorOf(path));
        return (!ownRoof && target.startsWith('cli/')) || target.startsWith('test/') || tests(target);
      }),
    );
    expect(wrong).toEqual([]);
  });

  it('name files that exist, with their extension', () => {
    const known = new Set(['index.ts', ...sources.map(({ path }) => path)]);
    const wrong = offences(sources, ({ path, imports }) =>
      imports.filter((specifier) => {
        const target = resolveImport(path, specifier);
        return (
          target !== undefined &&
          /\.[jt]s$|\/[^.]*$/.test(target) &&
          !known.has(target) &&
          !target.startsWith('dist/')
        );
      }),
    );
    expect(wrong).toEqual([]);
  });

  it('in sim/ point down', () => {
    const inSim = shipped.filter(({ path }) => path.startsWith('sim/'));
    expect(
      offences(inSim, ({ path }) =>
        simRank(path) === 0 && path.split('/').length > 2 ? ['is in no row of SIM_ORDER'] : [],
      ),
    ).toEqual([]);
    const wrong = offences(inSim, ({ path, imports }) =>
      imports.filter((specifier) => {
        const target = resolveImport(path, specifier);
        return target?.startsWith('sim/') === true && simRank(target) > simRank(path);
      }),
    );
    expect(wrong).toEqual([]);
  });

  it('make no cycle of files, and in sim/ no cycle of folders', () => {
    const files = new Map<string, Set<string>>();
    const simFolders = new Map<string, Set<string>>();
    for (const { path, imports } of shipped) {
      const targets = imports.flatMap((specifier) => resolveImport(path, specifier) ?? []);
      files.set(path, new Set(targets));
      if (!path.startsWith('sim/')) continue;
      const folder = path.split('/')[1];
      const row = simFolders.get(folder) ?? new Set<string>();
      for (const target of targets) if (target.split('/')[1] !== folder) row.add(target.split('/')[1]);
      simFolders.set(folder, row);
    }
    expect(findCycle(files)).toEqual([]);
    expect(findCycle(simFolders)).toEqual([]);
  });
});

describe('determinism', () => {
  const core = shipped.filter(({ path }) => path.startsWith('sim/'));

  it('keeps clocks, hosts and locales out of sim/', () => {
    expect(offences(core, ({ code }) => linesMatching(code, HOST))).toEqual([]);
  });

  it('keeps implementation-defined arithmetic out of sim/ and the trace generators', () => {
    const numeric = shipped.filter(({ path }) => /^(?:sim|traces)\//.test(path));
    expect(offences(numeric, ({ code }) => linesMatching(code, TRANSCENDENTAL))).toEqual([]);
    expect(offences(numeric, ({ code }) => linesMatching(code, POWER))).toEqual([]);
  });

  it('compiles sim/ without the names of any host', () => {
    const { compilerOptions } = JSON.parse(readFileSync(join(root, 'sim/tsconfig.json'), 'utf8'));
    expect(compilerOptions).toMatchObject({ lib: ['ES2023'], types: [] });
  });

  it('would see what it forbids', () => {
    for (const bad of ['Math.random()', 'Math.pow(a, b)', 'Math . exp(x)'])
      expect(bad).toMatch(TRANSCENDENTAL);
    for (const bad of ['Date.now()', 'new Date()', 'globalThis.process', 'a.localeCompare(b)'])
      expect(bad).toMatch(HOST);
    for (const bad of ['x ** 2', '12 ** n', '1.5 ** x']) expect(bad).toMatch(POWER);
    for (const good of ['2 ** 20', '2 ** n', '1_000 ** 2', 'a ** BigInt(n)']) expect(good).not.toMatch(POWER);
    for (const good of ['Math.sqrt(x)', 'Math.exponent', 'step.Date']) {
      expect(good).not.toMatch(TRANSCENDENTAL);
      expect(good).not.toMatch(HOST);
    }
  });
});

describe('style', () => {
  const own = sources.filter(({ path }) => !generated(path));
  const python = filesUnder('traces', ['.py']).map((path) => ({
    path,
    text: readFileSync(join(root, path), 'utf8'),
  }));

  it('names files in kebab-case', () => {
    // A dot stands only inside a version number: llama-3.1-8b.ts.
    const name = /^[a-z0-9]+(?:(?:-|(?<=\d)\.(?=\d))[a-z0-9]+)*(?:\.(?:test|generated|config))?\.[jt]s$/;
    expect(sources.filter(({ path }) => !name.test(basename(path))).map(({ path }) => path)).toEqual([]);
  });

  it('opens each file with a comment that says what it is', () => {
    const opens = /^(?:#![^\n]*\n)?(?:\/\/|\/\*)/;
    expect(sources.filter(({ text }) => !opens.test(text)).map(({ path }) => path)).toEqual([]);
    expect(python.filter(({ text }) => !/^(?:#|[rR]?""")/.test(text)).map(({ path }) => path)).toEqual([]);
  });

  it('exports by name, one thing at a time', () => {
    expect(offences(own, ({ code }) => linesMatching(code, /\bexport\s+(?:default\b|\*)/))).toEqual([]);
  });

  it('inherits from nothing but Error', () => {
    expect(offences(own, ({ code }) => linesMatching(code, /\bclass\s+\w+\s+extends\s+(?!Error\b)/))).toEqual(
      [],
    );
  });

  it('keeps `any`, `!` and enums out by lint, with no exception anywhere', () => {
    const { linter } = JSON.parse(readFileSync(join(root, 'biome.json'), 'utf8'));
    expect(linter.rules.suspicious.noExplicitAny).toBe('error');
    expect(linter.rules.style).toMatchObject({
      noNonNullAssertion: 'error',
      noEnum: 'error',
      useImportType: 'error',
    });
    const excuse = new RegExp(
      ['biome-ignore.*(?:noExplicitAny|noNonNull|noEnum)', '@ts-(?:ignore|nocheck|expect-error)'].join('|'),
    );
    const wrong = offences(own, ({ path, text }) =>
      path === 'test/architecture.test.ts' ? [] : linesMatching(text, excuse),
    );
    expect(wrong).toEqual([]);
  });

  it('leaves no notes to itself', () => {
    const note = new RegExp(`\\b(?:${['TO' + 'DO', 'FIX' + 'ME', 'X' + 'XX', 'HA' + 'CK'].join('|')})\\b`);
    expect(offences(sources, ({ text }) => linesMatching(text, note))).toEqual([]);
    expect(
      python.flatMap(({ path, text }) => linesMatching(text, note).map((line) => `${path}: ${line}`)),
    ).toEqual([]);
  });

  it('keeps files short: 300 lines (tests 400), and the listed exceptions only shrink', () => {
    const allowed: Record<string, number> = JSON.parse(
      readFileSync(join(root, 'test/long-files.json'), 'utf8'),
    );
    const lengths = new Map(
      [...own, ...python].map(({ path, text }) => [path, text.trimEnd().split('\n').length]),
    );
    const wrong = [...lengths].flatMap(([path, lines]) => {
      const limit = allowed[path] ?? (tests(path) ? 400 : 300);
      return lines > Math.min(limit, 400) ? [`${path}: ${lines} lines, allowed ${Math.min(limit, 400)}`] : [];
    });
    expect(wrong).toEqual([]);
    const loose = Object.entries(allowed).filter(
      ([path, limit]) => limit <= 300 || (lengths.get(path) ?? 0) < limit,
    );
    expect(loose.map(([path]) => `${path}: lower or remove its line in test/long-files.json`)).toEqual([]);
  });
});
