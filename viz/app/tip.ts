/** The one floating tip of the page: a title and lines of label and value, beside the pointer or a focused element. */
import { h } from './dom.ts';

export type TipLine = readonly [label: string, value: string];

export interface Tip {
  /** Shows beside `anchor` (an element, or a point in the viewport). */
  show(anchor: Element | readonly [x: number, y: number], title: string, lines: readonly TipLine[]): void;
  hide(): void;
}

const gapPx = 12;

/** Adds the tip to `parent`. It names itself `tip`, so that elements can refer to it by aria-describedby. */
export const createTip = (parent: HTMLElement): Tip => {
  const box = h('div', { id: 'tip', role: 'tooltip', class: 'tip', hidden: '' });
  parent.append(box);
  const place = (x: number, topPx: number, bottomPx: number): void => {
    const { width, height } = box.getBoundingClientRect();
    const left = Math.max(gapPx, Math.min(x + gapPx, window.innerWidth - width - gapPx));
    const below = bottomPx + gapPx + height <= window.innerHeight;
    // In page coordinates, so that the tip of a focused element scrolls along with it.
    box.style.left = `${left + window.scrollX}px`;
    box.style.top = `${window.scrollY + (below ? bottomPx + gapPx : Math.max(0, topPx - height - gapPx))}px`;
  };
  return {
    show(anchor, title, lines) {
      box.replaceChildren(
        h('strong', {}, title),
        ...lines.map(([label, value]) =>
          h('span', { class: 'tip-line' }, h('span', {}, label), h('b', {}, value)),
        ),
      );
      box.hidden = false;
      if (anchor instanceof Element) {
        const rect = anchor.getBoundingClientRect();
        place(rect.left, rect.top, rect.bottom);
      } else {
        place(anchor[0], anchor[1], anchor[1]);
      }
    },
    hide() {
      box.hidden = true;
    },
  };
};
