/**
 * The shell of a self-contained HTML page: script, style and data inline, nothing loaded, strict CSP. All data sits
 * compressed in a non-executing script element; the few strings outside it are escaped.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { SimError } from '../../sim/error.ts';

/** A client's bundle, as scripts/build-viz.js makes it. */
export interface Client {
  readonly script: string;
  readonly style: string;
}

export type ClientName = 'client' | 'inspect' | 'validation';

export interface Page {
  readonly client: Client;
  readonly title: string;
  /** HTML for readers without scripts, under the title; already escaped. */
  readonly plain: string;
  /** What the client unpacks. */
  readonly payload: Uint8Array;
  /** True when the client assembles WebAssembly of its own. */
  readonly wasm: boolean;
}

/** Reads NAME.js and NAME.css from `directory`, or from where the build puts them. Throws when not built. */
export const loadClient = (name: ClientName = 'client', directory?: URL): Client => {
  const places =
    directory === undefined
      ? ['../', '../../dist/viz/'].map((path) => new URL(path, import.meta.url))
      : [directory];
  const script = `${name}.js`;
  const place = places.find((url) => existsSync(new URL(script, url)));
  if (place === undefined) {
    const looked = places.map((url) => fileURLToPath(new URL(script, url))).join(' or ');
    throw new SimError('not-supported', `the page needs ${looked}, which is not built: run "npm run build"`);
  }
  const read = (file: string): string => readFileSync(new URL(file, place), 'utf8');
  return { script: read(script), style: read(`${name}.css`) };
};

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Text for element content and quoted attributes. */
export const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (char) => entities[char]);

const sha256 = (text: string): string =>
  `'sha256-${createHash('sha256').update(text, 'utf8').digest('base64')}'`;

const contentPolicy = ({ client: { script, style }, wasm }: Page): string =>
  [
    "default-src 'none'",
    // WebAssembly that the script itself assembles; no text becomes script by this.
    `script-src ${sha256(script)}${wasm ? " 'wasm-unsafe-eval'" : ''}`,
    `style-src ${sha256(style)}`,
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');

/** The page's HTML. Same input, same text. */
export const renderPage = (page: Page): string => {
  const { client } = page;
  const title = escapeHtml(page.title);
  const packed = gzipSync(page.payload, { level: 9 }).toString('base64');
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${contentPolicy(page)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>${title}</title>
<style>${client.style}</style>
</head>
<body>
<main id="kvtier"><noscript><h1>${title}</h1>${page.plain}</noscript></main>
<script type="application/octet-stream" id="kvtier-payload">${packed}</script>
<script>${client.script}</script>
</body>
</html>
`;
};
