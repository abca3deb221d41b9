/** The top of the page: which trace, its digest and seed, what was sampled, and everything that went in. */
import { flattenFields } from '../app/describe.ts';
import { h } from '../app/dom.ts';
import { themeButton } from '../app/theme.ts';
import type { InspectPage } from './page.ts';
import { inspectionLead, inspectionTitle } from './words.ts';

const shownDigestChars = 16;

const notesList = (notes: readonly string[]): readonly HTMLElement[] =>
  notes.length === 0 ? [] : [h('ul', { class: 'notes' }, ...notes.map((note) => h('li', {}, note)))];

export const inspectHeader = ({ result }: InspectPage): HTMLElement => {
  const { experiment, trace, digest, seed, notes } = result;
  const fields = [
    ...flattenFields(experiment),
    ...flattenFields({ ...trace, shape: { ...trace.shape } }, 'trace'),
  ];
  return h(
    'header',
    { class: 'page' },
    h(
      'div',
      { class: 'words' },
      h('h1', {}, inspectionTitle(result)),
      h('p', { class: 'lead' }, inspectionLead(result)),
      ...notesList(notes),
    ),
    h(
      'div',
      { class: 'actions' },
      h(
        'p',
        { class: 'identity' },
        'digest ',
        h('code', { title: digest }, digest.replace(/^sha256:/, '').slice(0, shownDigestChars)),
        ' · seed ',
        h('code', {}, String(seed)),
      ),
      h('div', { class: 'buttons' }, themeButton()),
    ),
    h(
      'details',
      {},
      h('summary', {}, 'All inputs'),
      h('dl', {}, ...fields.flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, value)])),
      h('p', { class: 'digest' }, 'digest ', h('code', {}, digest)),
    ),
  );
};
