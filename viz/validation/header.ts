/** The top of the page: which machine and which model, what was not run and what was stood in for, and all inputs. */
import { flattenFields } from '../app/describe.ts';
import { h } from '../app/dom.ts';
import { themeButton } from '../app/theme.ts';
import type { ValidationPage } from './page.ts';
import { validationLead, validationTitle } from './words.ts';

export const validationHeader = ({ result }: ValidationPage): HTMLElement => {
  const { experiment, machine, summary, refused, seed, cases } = result;
  const standIns = new Set(cases.flatMap((one) => one.standIns.map(({ what }) => what)));
  const notes = [
    ...machine.emulated.map((text) => `Emulated: ${text}.`),
    ...(standIns.size === 0
      ? []
      : [
          `Run as work of the same bytes, flops and launches, for want of a kernel: ${[...standIns].join(', ')}.`,
        ]),
    ...refused.map(
      ({ policy, context, batch, reason }) =>
        `Not run: ${policy}, ${context} tokens, batch ${batch}: ${reason}.`,
    ),
  ];
  const fields = [
    ...flattenFields({ ...experiment }),
    ...flattenFields({ ...machine }, 'machine'),
    ...flattenFields({ ...summary }, 'summary'),
    ['seed', String(seed)] as const,
  ];
  return h(
    'header',
    { class: 'page' },
    h(
      'div',
      { class: 'words' },
      h('h1', {}, validationTitle(result)),
      h('p', { class: 'lead' }, validationLead(result)),
      ...(notes.length === 0 ? [] : [h('ul', { class: 'notes' }, ...notes.map((note) => h('li', {}, note)))]),
    ),
    h('div', { class: 'actions' }, h('div', { class: 'buttons' }, themeButton())),
    h(
      'details',
      {},
      h('summary', {}, 'All inputs'),
      h('dl', {}, ...fields.flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, value)])),
    ),
  );
};
