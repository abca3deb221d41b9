/** How few keys hold how much: mean curve over all heads, the band of p10 to p90, and the chosen head. */
import { area, axisBottom, curveMonotoneX, line, pointer, scaleLog } from 'd3';
import { axisAt, h, hiddenTable, onWidth, plotOf, type SvgSelection, svgRoot } from '../../app/dom.ts';
import { formatRatio } from '../../app/format.ts';
import type { Frame, View } from '../../app/view.ts';
import { cellsOf, type InspectPage, nameOfCell } from '../page.ts';
import { concentrationFinding } from '../words.ts';
import { axisTitle, drawShareAxis, height, margin } from './chart.ts';

interface Point {
  readonly fraction: number;
  readonly mean: number;
  readonly p10: number;
  readonly p90: number;
  readonly chosen: number;
}

/** Points from one key on: a smaller share of this trace's keys would be less than one. */
const pointsOf = ({ result, store }: InspectPage): readonly Point[] => {
  const { overall, experiment, trace } = result;
  const { layer, head } = store.get();
  const chosen = cellsOf(result).find((cell) => cell.layer === layer && cell.head.head === head);
  return experiment.definitions.curveFractions
    .map((fraction, at) => ({
      fraction,
      mean: overall.mean.curve[at],
      p10: overall.p10.curve[at],
      p90: overall.p90.curve[at],
      chosen: chosen?.head.curve[at] ?? 0,
    }))
    .filter(({ fraction }) => fraction * trace.shape.promptTokens >= 1);
};

/** Plain digits: 0.01 %, 1.5 %, 100 %. */
const percent = (fraction: number): string => `${Number((100 * fraction).toPrecision(3))} %`;

const draw = (svg: SvgSelection, page: InspectPage, width: number): void => {
  svg.selectAll('*').remove();
  svg.attr('width', width).attr('height', height);
  const points = [...pointsOf(page)];
  const x = scaleLog()
    .domain([points[0].fraction, 1])
    .range([margin.left, width - margin.right]);
  const y = drawShareAxis(svg, width, margin.right);
  axisAt(svg, 0, height - margin.bottom).call(
    axisBottom(x)
      .tickValues([0.0001, 0.001, 0.01, 0.1, 1].filter((tick) => tick >= points[0].fraction))
      .tickSizeOuter(0)
      .tickFormat((v) => percent(Number(v))),
  );
  axisTitle(
    svg,
    'share of the keys, most attended first (log scale)',
    width - margin.right,
    height - 8,
    'end',
  );
  axisTitle(svg, 'attention that they hold', 0, 12, 'start');
  const band = area<Point>(
    (d) => x(d.fraction),
    (d) => y(d.p10),
    (d) => y(d.p90),
  ).curve(curveMonotoneX);
  const curve = (value: (d: Point) => number) =>
    line<Point>(
      (d) => x(d.fraction),
      (d) => y(value(d)),
    ).curve(curveMonotoneX)(points);
  svg.append('path').attr('class', 'band').attr('d', band(points));
  svg
    .append('path')
    .attr('class', 'curve mean')
    .attr(
      'd',
      curve((d) => d.mean),
    );
  svg
    .append('path')
    .attr('class', 'curve chosen')
    .attr(
      'd',
      curve((d) => d.chosen),
    );
  addCursor(svg, page, points, x, width);
};

/** A line under the pointer, with the numbers of the nearest point; arrow keys move it too. */
const addCursor = (
  svg: SvgSelection,
  { tip, store }: InspectPage,
  points: readonly Point[],
  x: (fraction: number) => number,
  width: number,
): void => {
  const cursor = svg
    .append('line')
    .attr('class', 'cursor')
    .attr('y1', margin.top)
    .attr('y2', height - margin.bottom)
    .attr('visibility', 'hidden');
  let at = points.findIndex(({ fraction }) => fraction >= 0.01);
  const hit = svg
    .append('rect')
    .attr('class', 'hit')
    .attr('x', margin.left)
    .attr('y', margin.top)
    .attr('width', width - margin.left - margin.right)
    .attr('height', height - margin.top - margin.bottom)
    .attr('tabindex', 0)
    .attr('role', 'img')
    .attr('aria-label', 'Concentration curve; arrow keys read it');
  const show = (): void => {
    const point = points[at];
    const px = x(point.fraction);
    const { layer, head } = store.get();
    cursor.attr('x1', px).attr('x2', px).attr('visibility', 'visible');
    const box = svg.node()?.getBoundingClientRect();
    tip.show(
      [(box?.left ?? 0) + px, (box?.top ?? 0) + height / 2],
      `top ${percent(point.fraction)} of the keys`,
      [
        ['mean of all heads', formatRatio(point.mean)],
        ['p10 to p90', `${formatRatio(point.p10)} to ${formatRatio(point.p90)}`],
        [nameOfCell(layer, head), formatRatio(point.chosen)],
      ],
    );
  };
  const hide = (): void => {
    cursor.attr('visibility', 'hidden');
    tip.hide();
  };
  hit
    .on('pointermove', (event: PointerEvent) => {
      const [px] = pointer(event);
      at = points.reduce(
        (best, { fraction }, i) =>
          Math.abs(x(fraction) - px) < Math.abs(x(points[best].fraction) - px) ? i : best,
        0,
      );
      show();
    })
    .on('focus', show)
    .on('pointerleave blur', hide)
    .on('keydown', (event: KeyboardEvent) => {
      const move = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
      if (move === 0) return;
      event.preventDefault();
      at = Math.max(0, Math.min(points.length - 1, at + move));
      show();
    });
};

const key = (className: string, text: string): HTMLElement =>
  h('li', {}, h('i', { class: className, 'aria-hidden': 'true' }), text);

const mount = ({ caption, body }: Frame, page: InspectPage): void => {
  caption.textContent = concentrationFinding(page.result);
  const svg = svgRoot('concentration-plot', 'Attention held by the most attended keys');
  const plot = plotOf(svg);
  const below = h('div', {});
  let widthPx = 0;
  const refresh = (): void => {
    const { layer, head } = page.store.get();
    const name = nameOfCell(layer, head);
    below.replaceChildren(
      h(
        'ul',
        { class: 'legend' },
        key('key-line key-mean', 'mean of all heads'),
        key('key-band', 'p10 to p90 of the heads'),
        key('key-line key-chosen', `${name} (choose another in the map)`),
      ),
      hiddenTable(
        'Attention held by the most attended keys',
        ['Share of the keys', 'Mean', 'p10', 'p90', name],
        pointsOf(page).map((d) => [
          percent(d.fraction),
          ...[d.mean, d.p10, d.p90, d.chosen].map(formatRatio),
        ]),
      ),
    );
    if (widthPx > 0) draw(svg, page, widthPx);
  };
  body.append(plot, below);
  page.store.subscribe((state, before) => {
    if (state.layer !== before.layer || state.head !== before.head) refresh();
  });
  onWidth(plot, (width) => {
    widthPx = width;
    refresh();
  });
  refresh();
};

export const concentration = {
  id: 'concentration',
  question: 'How few keys hold how much?',
  mount,
} satisfies View<InspectPage>;
