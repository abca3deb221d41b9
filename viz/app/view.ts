/** What a view is: a question, and a mount function that fills a figure from the report and the store. */
import type { Payload } from '../payload.ts';
import { h } from './dom.ts';
import type { Store } from './store.ts';
import type { Tip } from './tip.ts';

export interface Report extends Payload {
  readonly store: Store;
  readonly tip: Tip;
}

/** The parts of a figure that a view fills. */
export interface Frame {
  /** Beside the heading: pickers and switches. */
  readonly controls: HTMLElement;
  /** The one-sentence finding. */
  readonly caption: HTMLElement;
  readonly body: HTMLElement;
}

export interface View<R = Report> {
  readonly id: string;
  readonly question: string;
  mount(frame: Frame, report: R): void;
}

/** Adds the view's `<figure>` to `parent` and mounts it there. */
export const mountView = <R>(view: View<R>, parent: HTMLElement, report: R): void => {
  const controls = h('div', { class: 'controls' });
  const caption = h('figcaption', { id: `${view.id}-finding` });
  const body = h('div', { class: 'body' });
  const heading = h('h2', { id: `${view.id}-heading` }, view.question);
  parent.append(
    h(
      'figure',
      {
        id: view.id,
        class: `view view-${view.id}`,
        'aria-labelledby': `${view.id}-heading ${view.id}-finding`,
      },
      h('header', {}, heading, controls),
      caption,
      body,
    ),
  );
  view.mount({ controls, caption, body }, report);
};

/** A picker of the selected policy, kept in step with the store. */
export const policyPicker = ({ result, store }: Report, label: string): HTMLElement => {
  const select = h(
    'select',
    {},
    ...result.policies.map(({ policy }) => h('option', { value: policy }, policy)),
  );
  select.value = store.get().policy;
  select.addEventListener('change', () => store.set({ policy: select.value }));
  store.subscribe(({ policy }) => {
    select.value = policy;
  });
  return h('label', { class: 'picker' }, h('span', { class: 'visually-hidden' }, label), select);
};
