/** The few ways this page makes elements. Strings become text nodes, never markup, so data cannot inject anything. */
import { create, type Selection } from 'd3';

type Child = Node | string;

/** An HTML element with attributes and children; strings among the children are text. */
export const h = <K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Readonly<Record<string, string>>,
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};

export type SvgSelection = Selection<SVGSVGElement, undefined, null, undefined>;

/** An empty `<svg>` as a d3 selection, hidden from assistive tools unless `label` is given. */
export const svgRoot = (className: string, label: string): SvgSelection =>
  create('svg').attr('class', className).attr('role', 'group').attr('aria-label', label);

/** The element that holds a drawing and gives it its width. */
export const plotOf = (svg: SvgSelection): HTMLElement => {
  const node = svg.node();
  return h('div', { class: 'plot' }, ...(node === null ? [] : [node]));
};

/** A group for an axis that starts there; a screen reader gets the facts from the table. */
export const axisAt = (
  svg: SvgSelection,
  x: number,
  y: number,
): Selection<SVGGElement, undefined, null, undefined> =>
  svg.append('g').attr('class', 'axis').attr('aria-hidden', 'true').attr('transform', `translate(${x},${y})`);

/** The same facts as a chart, for screen readers: visually hidden, a caption and one row an item. */
export const hiddenTable = (
  caption: string,
  head: readonly string[],
  rows: readonly (readonly string[])[],
): HTMLElement =>
  h(
    'div',
    { class: 'visually-hidden' },
    h(
      'table',
      {},
      h('caption', {}, caption),
      h('thead', {}, h('tr', {}, ...head.map((name) => h('th', { scope: 'col' }, name)))),
      h(
        'tbody',
        {},
        ...rows.map(([first, ...rest]) =>
          h('tr', {}, h('th', { scope: 'row' }, first), ...rest.map((cell) => h('td', {}, cell))),
        ),
      ),
    ),
  );

/** Calls `draw` with the element's width in CSS pixels now and whenever it changes. */
export const onWidth = (element: HTMLElement, draw: (widthPx: number) => void): void => {
  let drawnPx = 0;
  new ResizeObserver(() => {
    const widthPx = Math.floor(element.clientWidth);
    if (widthPx === 0 || widthPx === drawnPx) return;
    drawnPx = widthPx;
    draw(widthPx);
  }).observe(element);
};

/** Writes a name and what follows it into a text of a picture; the end of the name gives way where both do not fit. */
export const writeWithin = (text: SVGTextElement, roomPx: number, name: string, rest = ''): void => {
  text.textContent = name + rest;
  for (let kept = name.length - 1; kept > 0 && text.getComputedTextLength() > roomPx; kept--)
    text.textContent = `${name.slice(0, kept)}…${rest}`;
};
