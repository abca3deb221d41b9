/** Writes a validation as one self-contained HTML page (shell.ts), with a plain table for readers without scripts. */
import { formatNs } from '../app/format.ts';
import { errorOf, groupOf, signed, type ValidationResult } from '../validation/page.ts';
import { validationLead, validationTitle } from '../validation/words.ts';
import { type Client, escapeHtml, loadClient, renderPage } from './shell.ts';

const row = (tag: string, texts: readonly string[]): string =>
  `<tr>${texts.map((text) => `<${tag}>${escapeHtml(text)}</${tag}>`).join('')}</tr>`;

const plainTable = ({ cases }: ValidationResult): string => {
  const rows = cases.map((one) =>
    row('td', [
      one.policy,
      groupOf(one),
      formatNs(one.predictedNs),
      formatNs(one.measuredNs),
      signed(errorOf(one)),
    ]),
  );
  return `<table>${row('th', ['policy', 'case', 'predicted', 'measured', 'error'])}${rows.join('')}</table>`;
};

/** The page's HTML. Same result, same text. Throws `not-supported` when the client's bundle is missing. */
export const renderValidationPage = (
  result: ValidationResult,
  client: Client = loadClient('validation'),
): string =>
  renderPage({
    client,
    title: `${validationTitle(result)} · kvtier`,
    plain: `<p>${escapeHtml(validationLead(result))}</p>${plainTable(result)}`,
    payload: new TextEncoder().encode(JSON.stringify(result)),
    wasm: false,
  });
