/** Starts a page in its root element: what the views wait for, and what a reader sees when that fails. */
import { h } from './dom.ts';

/** `fill` draws into the root; afterwards the root says that it is ready, or holds the one line of what went wrong. */
export const startPage = (fill: (root: HTMLElement) => Promise<void>): void => {
  const root = document.getElementById('kvtier');
  if (root === null) return;
  fill(root)
    .then(() => {
      root.dataset.ready = 'true';
    })
    .catch((error: unknown) => {
      const message = error instanceof Error ? error.message : String(error);
      root.replaceChildren(h('p', { class: 'failure', role: 'alert' }, message));
    });
};
