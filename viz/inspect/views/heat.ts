/** One statistic of every head at a glance: layers down, query heads across, KV heads apart. */
import { scaleLinear, scaleLog } from 'd3';
import type { Statistic } from '../../../traces/attention/inspect/statistics.ts';
import { h, hiddenTable, onWidth, plotOf, type SvgSelection, svgRoot } from '../../app/dom.ts';
import type { Frame, View } from '../../app/view.ts';
import {
  type Cell,
  cellsOf,
  formatValue,
  type InspectPage,
  knownStatistics,
  linesOf,
  nameOfCell,
  statisticOf,
} from '../page.ts';
import { heatFinding } from '../words.ts';

const margin = { top: 34, right: 2, bottom: 4, left: 34 };
const groupGapPx = 4;
/** Room below which a label is left out. */
const labelRoomPx = 15;

/** Colour of a share of the scale; the theme's own hues mix in the style sheet. */
const heatColour = (share: number): string =>
  share < 0.5
    ? `color-mix(in oklab, var(--heat-mid) ${200 * share}%, var(--heat-low))`
    : `color-mix(in oklab, var(--heat-high) ${200 * share - 100}%, var(--heat-mid))`;

/** Counts of tokens span decades. */
const isLogarithmic = (values: readonly number[], { unit }: Statistic): boolean =>
  (unit === 'tokens' || unit === 'blocks') && Math.min(...values) > 0;

/** Share of the scale, 0 to 1. */
const scaleOf = (values: readonly number[], statistic: Statistic): ((value: number) => number) => {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  if (low === high) return () => 0.5;
  return (isLogarithmic(values, statistic) ? scaleLog() : scaleLinear()).domain([low, high]).range([0, 1]);
};

interface Grid {
  readonly x: (head: number) => number;
  readonly y: (layer: number) => number;
  readonly widthPx: number;
  readonly heightPx: number;
}

const gridOf = ({ result }: InspectPage, width: number): Grid => {
  const { heads, kvHeads } = result.trace.shape;
  const group = heads / kvHeads;
  const gaps = group > 1 ? kvHeads - 1 : 0;
  const room = width - margin.left - margin.right - gaps * groupGapPx;
  const widthPx = Math.max(2, Math.min(64, room / heads));
  const rows = result.layers.map(({ layer }) => layer);
  const heightPx = Math.max(9, Math.min(60, 330 / rows.length));
  return {
    widthPx,
    heightPx,
    x: (head) => margin.left + head * widthPx + (gaps > 0 ? Math.floor(head / group) * groupGapPx : 0),
    y: (layer) => margin.top + rows.indexOf(layer) * heightPx,
  };
};

const label = (svg: SvgSelection, x: number, y: number, anchor: string, text: string): void => {
  svg
    .append('text')
    .attr('class', 'heat-label')
    .attr('x', x)
    .attr('y', y)
    .attr('text-anchor', anchor)
    .attr('aria-hidden', 'true')
    .text(text);
};

const drawLabels = (svg: SvgSelection, { result }: InspectPage, grid: Grid): void => {
  const { heads, kvHeads } = result.trace.shape;
  const group = heads / kvHeads;
  const every = Math.max(1, Math.ceil(labelRoomPx / grid.heightPx));
  for (const [at, { layer }] of result.layers.entries())
    if (at % every === 0)
      label(svg, margin.left - 6, grid.y(layer) + grid.heightPx / 2 + 4, 'end', String(layer));
  const step = Math.ceil((labelRoomPx + 3) / grid.widthPx);
  for (let head = 0; head < heads; head += step)
    label(svg, grid.x(head) + grid.widthPx / 2, margin.top - 5, 'middle', String(head));
  if (group === 1) return;
  for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
    const [from, to] = [grid.x(kvHead * group), grid.x(kvHead * group + group - 1) + grid.widthPx];
    svg
      .append('line')
      .attr('class', 'kv-bracket')
      .attr('x1', from + 1)
      .attr('x2', to - 1)
      .attr('y1', 16.5)
      .attr('y2', 16.5);
    const text = to - from > 40 ? `KV ${kvHead}` : to - from > 14 ? String(kvHead) : '';
    label(svg, (from + to) / 2, 11, 'middle', text);
  }
};

const drawCells = (svg: SvgSelection, page: InspectPage, grid: Grid): void => {
  const { store, tip, result } = page;
  svg
    .selectAll<SVGRectElement, Cell>('rect.cell')
    .data([...cellsOf(result)])
    .join('rect')
    .attr('class', 'cell')
    .attr('role', 'button')
    .attr('tabindex', -1)
    .attr('data-cell', ({ layer, head }) => `${layer}.${head.head}`)
    .attr('x', ({ head }) => grid.x(head.head) + 0.5)
    .attr('y', ({ layer }) => grid.y(layer) + 0.5)
    .attr('width', Math.max(1, grid.widthPx - 1))
    .attr('height', grid.heightPx - 1)
    .on('pointerenter focus', function (_, { layer, head }) {
      tip.show(this, nameOfCell(layer, head.head), linesOf(head, statisticOf(store.get().statistic)));
    })
    .on('pointerleave blur', () => tip.hide())
    .on('click', (_, { layer, head }) => store.set({ layer, head: head.head }));
  svg
    .append('rect')
    .attr('class', 'cell-selected')
    .attr('width', grid.widthPx + 1)
    .attr('height', grid.heightPx + 1);
};

/** Colours the cells by the chosen statistic and frames the chosen head. */
const paint = (svg: SvgSelection, { store, result }: InspectPage, grid: Grid): void => {
  const { statistic: key, layer, head } = store.get();
  const statistic = statisticOf(key);
  const values = cellsOf(result).flatMap((cell) => statistic.of(cell.head) ?? []);
  const scale = scaleOf(values, statistic);
  svg
    .selectAll<SVGRectElement, Cell>('rect.cell')
    .style('fill', (cell) => {
      const value = statistic.of(cell.head);
      return value === null ? 'var(--track)' : heatColour(scale(value));
    })
    .attr('tabindex', (cell) => (cell.layer === layer && cell.head.head === head ? 0 : -1))
    .attr(
      'aria-label',
      (cell) =>
        `${nameOfCell(cell.layer, cell.head.head)}: ${statistic.label} ${formatValue(statistic.of(cell.head), statistic.unit)}`,
    );
  svg
    .select('.cell-selected')
    .attr('x', grid.x(head) - 0.5)
    .attr('y', grid.y(layer) - 0.5);
};

/** Arrow keys walk the heads; Enter or Space chooses. */
const bindKeys = (svg: SvgSelection, { result, store }: InspectPage): void => {
  const layers = result.layers.map(({ layer }) => layer);
  const { heads } = result.trace.shape;
  svg.on('keydown', (event: KeyboardEvent) => {
    const name = document.activeElement?.getAttribute('data-cell');
    if (!name) return;
    const [layer, head] = name.split('.').map(Number);
    if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      store.set({ layer, head });
      return;
    }
    const across = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
    const down = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
    if (across === 0 && down === 0) return;
    event.preventDefault();
    const row = Math.max(0, Math.min(layers.length - 1, layers.indexOf(layer) + down));
    const column = Math.max(0, Math.min(heads - 1, head + across));
    svg.select<SVGRectElement>(`[data-cell="${layers[row]}.${column}"]`).node()?.focus();
  });
};

const picker = ({ result, store }: InspectPage): HTMLElement => {
  const options = knownStatistics(result).map(({ key, label: text }) => h('option', { value: key }, text));
  const select = h('select', {}, ...options);
  select.value = store.get().statistic;
  select.addEventListener('change', () => store.set({ statistic: select.value }));
  return h('label', { class: 'picker' }, h('span', { class: 'visually-hidden' }, 'Statistic'), select);
};

/** The ends of the colour scale, in numbers. */
const legendOf = ({ result, store }: InspectPage): HTMLElement => {
  const statistic = statisticOf(store.get().statistic);
  const values = cellsOf(result).flatMap(({ head }) => statistic.of(head) ?? []);
  const bar = h('span', { class: 'key-bar', 'aria-hidden': 'true' });
  for (let i = 0; i < 24; i++) {
    const part = h('i', {});
    part.style.cssText = `display:inline-block;width:5px;height:10px;background:${heatColour(i / 23)}`;
    bar.append(part);
  }
  const text = (value: number): string => formatValue(values.length === 0 ? null : value, statistic.unit);
  const note = isLogarithmic(values, statistic) ? ' (log scale)' : '';
  return h(
    'p',
    { class: 'key-scale' },
    text(Math.min(...values)),
    bar,
    `${text(Math.max(...values))}${note}`,
  );
};

const tableOf = ({ result, store }: InspectPage): HTMLElement => {
  const statistic = statisticOf(store.get().statistic);
  return hiddenTable(
    `${statistic.label} by layer and head`,
    ['Layer', ...result.layers[0].heads.map(({ head }) => `head ${head}`)],
    result.layers.map(({ layer, heads }) => [
      String(layer),
      ...heads.map((head) => formatValue(statistic.of(head), statistic.unit)),
    ]),
  );
};

const mount = ({ controls, caption, body }: Frame, page: InspectPage): void => {
  const svg = svgRoot(
    'heat-plot',
    'Heat map of layers and heads; arrow keys walk the heads, Enter chooses one',
  );
  const plot = plotOf(svg);
  const below = h('div', {});
  let grid: Grid | null = null;
  const refresh = (): void => {
    caption.textContent = heatFinding(page.result, page.store.get().statistic);
    below.replaceChildren(legendOf(page), tableOf(page));
    if (grid !== null) paint(svg, page, grid);
  };
  controls.append(picker(page));
  body.append(plot, below);
  bindKeys(svg, page);
  page.store.subscribe(refresh);
  onWidth(plot, (width) => {
    grid = gridOf(page, width);
    svg.selectAll('*').remove();
    svg
      .attr('width', width)
      .attr('height', margin.top + page.result.layers.length * grid.heightPx + margin.bottom);
    drawLabels(svg, page, grid);
    drawCells(svg, page, grid);
    refresh();
  });
};

export const heat = { id: 'heat', question: 'Which heads look where?', mount } satisfies View<InspectPage>;
