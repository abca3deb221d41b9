/**
 * Writes a comparison as one self-contained HTML page: script, style and data inline, nothing loaded, strict CSP.
 * All data sits compressed in a non-executing script element; the few strings outside it are escaped.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { SimError } from '../../sim/error.ts';
import type { CompareResult } from '../../sim/result.ts';
import { describeExperiment, titleOf } from '../app/describe.ts';
import { formatBytes, formatNs, formatRatio } from '../app/format.ts';
import { type PolicyTimeline, packPayload, type ReplayOffer } from '../payload.ts';
import { thinTimelines } from './thin.ts';

/** The client's bundle, as scripts/build-viz.js makes it. */
export interface Client {
  readonly script: string;
  readonly style: string;
}

export interface ReportInput {
  readonly result: CompareResult;
  readonly timelines: readonly PolicyTimeline[];
  readonly replay: ReplayOffer;
  /** Timeline rows that the page keeps, all policies together; the page says which steps it left out. */
  readonly timelineRows?: number | undefined;
  /** Another bundle than the one of this package (tests). */
  readonly client?: Client | undefined;
}

/** 120,000 rows are about 4 MB before compression: some minutes of scrolling, and a page that mail still takes. */
const defaultTimelineRows = 120_000;

/** Reads client.js and client.css from `directory`, or from where the build puts them. Throws when not built. */
export const loadClient = (directory?: URL): Client => {
  const places =
    directory === undefined
      ? ['../', '../../dist/viz/'].map((path) => new URL(path, import.meta.url))
      : [directory];
  const place = places.find((url) => existsSync(new URL('client.js', url)));
  if (place === undefined) {
    const looked = places.map((url) => fileURLToPath(new URL('client.js', url))).join(' or ');
    throw new SimError(
      'not-supported',
      `the report needs ${looked}, which is not built: run "npm run build"`,
    );
  }
  const read = (name: string): string => readFileSync(new URL(name, place), 'utf8');
  return { script: read('client.js'), style: read('client.css') };
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

const contentPolicy = ({ script, style }: Client): string =>
  [
    "default-src 'none'",
    // The replay computes attention in WebAssembly, which the script itself assembles; no text becomes script by this.
    `script-src ${sha256(script)} 'wasm-unsafe-eval'`,
    `style-src ${sha256(style)}`,
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');

/** The numbers that matter most, for readers without scripts. */
const plainTable = ({ policies }: CompareResult): string => {
  const cells = (tag: string, texts: readonly string[]): string =>
    `<tr>${texts.map((text) => `<${tag}>${escapeHtml(text)}</${tag}>`).join('')}</tr>`;
  const rows = policies.map((policy) => {
    const link = policy.traffic['dram->hbm'];
    const inBytes = link !== undefined && 'bytesPerStep' in link ? link.bytesPerStep : 0;
    return cells('td', [
      policy.policy,
      policy.fits ? 'yes' : 'no',
      formatNs(policy.stepNs.mean),
      formatBytes(inBytes),
      policy.quality === null ? 'not measured' : formatRatio(policy.quality.massRecall.mean),
    ]);
  });
  return `<table>${cells('th', ['policy', 'fits', 'step time', 'DRAM to HBM per step', 'mass recall'])}${rows.join('')}</table>`;
};

/** The page's HTML. Same input, same text. Throws `not-supported` when the client's bundle is missing. */
export const renderReport = (input: ReportInput): string => {
  const client = input.client ?? loadClient();
  const { result, replay } = input;
  const { timelines, pageNotes } = thinTimelines(input.timelines, input.timelineRows ?? defaultTimelineRows);
  const packed = gzipSync(packPayload({ result, timelines, replay, pageNotes }), { level: 9 }).toString(
    'base64',
  );
  const title = escapeHtml(`${titleOf(result.experiment)} · kvtier`);
  const summary = escapeHtml(describeExperiment(result.experiment, result.policies.length));
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${contentPolicy(client)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>${title}</title>
<style>${client.style}</style>
</head>
<body>
<main id="kvtier"><noscript><h1>${title}</h1><p>${summary}</p>${plainTable(result)}</noscript></main>
<script type="application/octet-stream" id="kvtier-payload">${packed}</script>
<script>${client.script}</script>
</body>
</html>
`;
};
