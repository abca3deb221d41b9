/** The top of the page: the experiment in words, its digest and seed, what was fallen back to, and what to do next. */
import { chromeTrace } from '../perfetto.ts';
import { describeExperiment, flattenFields, titleOf } from './describe.ts';
import { h } from './dom.ts';
import { replayPanel } from './replay-panel.ts';
import { themeButton } from './theme.ts';
import type { Report } from './view.ts';

const shownDigestChars = 16;

const digestLine = ({ result }: Report): HTMLElement =>
  h(
    'p',
    { class: 'identity' },
    'digest ',
    h('code', { title: result.digest }, result.digest.replace(/^sha256:/, '').slice(0, shownDigestChars)),
    ' · seed ',
    h('code', {}, String(result.seed)),
  );

const notesList = ({ result, pageNotes }: Report): HTMLElement | undefined => {
  const notes = [...result.notes, ...(result.limits ?? []), ...pageNotes];
  if (notes.length === 0) return undefined;
  return h('ul', { class: 'notes' }, ...notes.map((note) => h('li', {}, note)));
};

const fieldsList = ({ result }: Report): HTMLElement => {
  const fields = [
    ...flattenFields(result.experiment),
    ...flattenFields(result.provenance ?? {}, 'provenance'),
  ];
  return h(
    'details',
    {},
    h('summary', {}, 'All inputs'),
    h('dl', {}, ...fields.flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, value)])),
    h('p', { class: 'digest' }, 'digest ', h('code', {}, result.digest)),
  );
};

/** Saves all timelines of the page as Chrome-trace JSON. */
const perfettoButton = ({ result, timelines }: Report): HTMLElement => {
  const button = h('button', { type: 'button' }, 'Save timeline for Perfetto');
  button.addEventListener('click', () => {
    const meta = { format: result.format, digest: result.digest, experiment: result.experiment };
    const url = URL.createObjectURL(
      new Blob([...chromeTrace(timelines, meta)], { type: 'application/json' }),
    );
    h('a', { href: url, download: 'timeline.json' }).click();
    URL.revokeObjectURL(url);
  });
  return button;
};

export const pageHeader = (report: Report): HTMLElement => {
  const { experiment, policies } = report.result;
  const notes = notesList(report);
  return h(
    'header',
    { class: 'page' },
    h(
      'div',
      { class: 'words' },
      h('h1', {}, titleOf(experiment)),
      h('p', { class: 'lead' }, describeExperiment(experiment, policies.length)),
      ...(notes === undefined ? [] : [notes]),
    ),
    h(
      'div',
      { class: 'actions' },
      digestLine(report),
      h(
        'div',
        { class: 'buttons' },
        replayPanel(report),
        ...(report.timelines.length > 0 ? [perfettoButton(report)] : []),
        themeButton(),
      ),
    ),
    fieldsList(report),
  );
};
