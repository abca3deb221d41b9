/** Writes a comparison as one self-contained HTML page (shell.ts), with a plain table for readers without scripts. */
import type { CompareResult } from '../../sim/result.ts';
import { describeExperiment, titleOf } from '../app/describe.ts';
import { formatBytes, formatNs, formatRatio } from '../app/format.ts';
import { type PolicyTimeline, packPayload, type ReplayOffer } from '../payload.ts';
import { type Client, escapeHtml, loadClient, renderPage } from './shell.ts';
import { thinTimelines } from './thin.ts';

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
  return renderPage({
    client,
    title: `${titleOf(result.experiment)} · kvtier`,
    plain: `<p>${escapeHtml(describeExperiment(result.experiment, result.policies.length))}</p>${plainTable(result)}`,
    payload: packPayload({ result, timelines, replay, pageNotes }),
    // The replay computes attention in WebAssembly.
    wasm: true,
  });
};
