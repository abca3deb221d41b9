/** Writes an inspection of a trace as one self-contained HTML page (shell.ts), with a plain table for readers without scripts. */
import type { InspectionResult } from '../../traces/attention/inspect/result.ts';
import type { HeadStatistics } from '../../traces/attention/inspect/statistics.ts';
import { formatNumber, formatRatio } from '../app/format.ts';
import { inspectionLead, inspectionTitle } from '../inspect/words.ts';
import { type Client, escapeHtml, loadClient, renderPage } from './shell.ts';

const plainTable = ({ layers, overall }: InspectionResult): string => {
  const cells = (tag: string, texts: readonly string[]): string =>
    `<tr>${texts.map((text) => `<${tag}>${escapeHtml(text)}</${tag}>`).join('')}</tr>`;
  const row = (name: string, mean: HeadStatistics): string =>
    cells('td', [
      name,
      formatRatio(mean.topMass['1%']),
      formatNumber(Math.round(mean.oracleTokens['90%'])),
      formatRatio(mean.sinkShare),
      formatRatio(mean.recentShare['256']),
    ]);
  const rows = layers.map(({ layer, mean }) => row(String(layer), mean));
  return `<table>${cells('th', ['layer', 'mass in the top 1 %', 'keys for 90 %', 'sink share', 'last 256 tokens'])}${rows.join('')}${row('all', overall.mean)}</table>`;
};

/** The page's HTML. Same result, same text. Throws `not-supported` when the client's bundle is missing. */
export const renderInspectionPage = (
  result: InspectionResult,
  client: Client = loadClient('inspect'),
): string =>
  renderPage({
    client,
    title: `${inspectionTitle(result)} · kvtier`,
    plain: `<p>${escapeHtml(inspectionLead(result))}</p>${plainTable(result)}`,
    payload: new TextEncoder().encode(JSON.stringify(result)),
    wasm: false,
  });
