/**
 * Reads source files as text: what they import, and their code with comments and strings blanked out.
 * A scanner, not a parser: fast enough for every test run, exact enough for the rules in architecture.test.ts.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..');

export interface Source {
  /** Path from the repository's root, with slashes. */
  readonly path: string;
  readonly text: string;
  /** The text with comments, strings and regular expressions blanked; same length, same lines. */
  readonly code: string;
  readonly imports: readonly string[];
}

const REGEX_MAY_FOLLOW =
  /(?:^|[=([{,;:!&|?+\-*%<>~^]|\b(?:return|typeof|case|in|of|void|delete|throw|else|do))\s*$/;

/** End of a quoted string that opens at `at` (position after the closing quote). */
const stringEnd = (text: string, at: number): number => {
  const quote = text[at];
  let end = at + 1;
  while (end < text.length && text[end] !== quote && text[end] !== '\n') end += text[end] === '\\' ? 2 : 1;
  return end + 1;
};

const regexEnd = (text: string, at: number): number => {
  let end = at + 1;
  let inClass = false;
  while (end < text.length && text[end] !== '\n' && (inClass || text[end] !== '/')) {
    if (text[end] === '[') inClass = true;
    if (text[end] === ']') inClass = false;
    end += text[end] === '\\' ? 2 : 1;
  }
  return end + 1;
};

const commentEnd = (text: string, at: number): number => {
  const end = text[at + 1] === '/' ? text.indexOf('\n', at) : text.indexOf('*/', at) + 2;
  return end < at ? text.length : end;
};

const blanked = (text: string): string => text.replace(/[^\n]/g, ' ');

/** The code of a text: same length, everything that is not code turned into spaces (quotes stay). */
export const codeOf = (text: string): string => {
  let code = '';
  let at = 0;
  /** Depth of braces at which each open template literal resumes. */
  const templates: number[] = [];
  let braces = 0;
  while (at < text.length) {
    const char = text[at];
    const next = text[at + 1];
    let end = at + 1;
    if (char === '/' && (next === '/' || next === '*')) {
      end = commentEnd(text, at);
      code += blanked(text.slice(at, end));
    } else if (char === "'" || char === '"') {
      end = stringEnd(text, at);
      code += char + blanked(text.slice(at + 1, end - 1)) + char;
    } else if (char === '/' && REGEX_MAY_FOLLOW.test(code.slice(-40))) {
      end = regexEnd(text, at);
      code += blanked(text.slice(at, end));
    } else if (char === '`' || (char === '}' && templates.at(-1) === braces)) {
      if (char === '}') templates.pop();
      end = at + 1;
      while (end < text.length && text[end] !== '`' && !(text[end] === '$' && text[end + 1] === '{')) {
        end += text[end] === '\\' ? 2 : 1;
      }
      const opens = text[end] === '$';
      if (opens) templates.push(braces);
      end += opens ? 2 : 1;
      code += char + blanked(text.slice(at + 1, end));
    } else {
      if (char === '{') braces++;
      if (char === '}') braces--;
      code += char;
    }
    at = end;
  }
  return code;
};

const IMPORT = /\b(?:from|import)\s*\(?\s*(['"])/g;

/** Specifiers that a file imports or re-exports, dynamic imports of a literal included. */
export const importsOf = (text: string, code: string): readonly string[] => {
  const found: string[] = [];
  for (const match of code.matchAll(IMPORT)) {
    const open = match.index + match[0].length;
    const close = code.indexOf(match[1], open);
    if (close > open) found.push(text.slice(open, close));
  }
  return found;
};

/** The imported file's path from the root for `./x.ts`, undefined for packages. */
export const resolveImport = (from: string, specifier: string): string | undefined =>
  specifier.startsWith('.') ? posix.join(posix.dirname(from), specifier.replace(/[?#].*$/, '')) : undefined;

export const readSource = (path: string): Source => {
  const text = readFileSync(join(root, path), 'utf8');
  const code = codeOf(text);
  return { path, text, code, imports: importsOf(text, code) };
};

const SKIPPED = new Set(['node_modules', 'dist', 'fixtures', 'samples', '__pycache__']);

/** Paths of all files under a folder whose name ends as wanted; nothing when the folder is missing. */
export const filesUnder = (folder: string, endings: readonly string[]): readonly string[] => {
  if (!statSync(join(root, folder), { throwIfNoEntry: false })?.isDirectory()) return [];
  return readdirSync(join(root, folder), { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = `${folder}/${entry.name}`;
      if (entry.isDirectory())
        return SKIPPED.has(entry.name) || entry.name.startsWith('.') ? [] : filesUnder(path, endings);
      return endings.some((ending) => entry.name.endsWith(ending)) ? [path] : [];
    });
};
