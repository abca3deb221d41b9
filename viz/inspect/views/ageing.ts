/** How a choice ages: what the top 1 % of step 0 is still worth at later steps, all layers and their mean. */
import { axisBottom, line, scaleLinear } from 'd3';
import { axisAt, h, hiddenTable, onWidth, plotOf, type SvgSelection, svgRoot } from '../../app/dom.ts';
import { formatRatio } from '../../app/format.ts';
import type { Frame, View } from '../../app/view.ts';
import type { InspectPage } from '../page.ts';
import { ageingFinding } from '../words.ts';
import { axisTitle, drawShareAxis, height, margin } from './chart.ts';

const draw = (svg: SvgSelection, { result, tip }: InspectPage, width: number): void => {
  svg.selectAll('*').remove();
  svg.attr('width', width).attr('height', height);
  const { steps } = result.experiment;
  const x = scaleLinear()
    .domain([0, Math.max(1, steps[steps.length - 1])])
    .range([margin.left + 8, width - margin.right]);
  const y = drawShareAxis(svg, width, margin.right);
  axisAt(svg, 0, height - margin.bottom).call(
    axisBottom(x)
      .ticks(Math.min(8, steps.length))
      .tickFormat((v) => (Number.isInteger(Number(v)) ? String(v) : ''))
      .tickSizeOuter(0),
  );
  axisTitle(svg, 'decode step', width - margin.right, height - 8, 'end');
  axisTitle(svg, "attention on step 0's top 1 %, of what the best set would hold", 0, 12, 'start');
  const path = (values: readonly number[]): string | null =>
    line<number>(
      (_, at) => x(steps[at]),
      (value) => y(value),
    )([...values]);
  for (const { drift } of result.layers)
    svg.append('path').attr('class', 'curve each').attr('d', path(drift.massRecall));
  const { massRecall, setRecall } = result.overall.drift;
  svg.append('path').attr('class', 'curve mean').attr('d', path(massRecall));
  svg
    .append('g')
    .attr('class', 'series series-0')
    .selectAll<SVGCircleElement, number>('circle')
    .data(massRecall)
    .join('circle')
    .attr('class', 'mark')
    .attr('r', 4)
    .attr('cx', (_, at) => x(steps[at]))
    .attr('cy', (value) => y(value))
    .on('pointerenter', function (_, value) {
      const at = massRecall.indexOf(value);
      tip.show(this, `step ${steps[at]}`, [
        ['mass kept', formatRatio(value)],
        ['set kept', formatRatio(setRecall[at])],
      ]);
    })
    .on('pointerleave', () => tip.hide());
};

const mount = ({ caption, body }: Frame, page: InspectPage): void => {
  const { result } = page;
  caption.textContent = ageingFinding(result);
  const svg = svgRoot('ageing-plot', "Worth of step 0's choice at later steps");
  const plot = plotOf(svg);
  const { massRecall, setRecall } = result.overall.drift;
  const table = hiddenTable(
    "Worth of step 0's top 1 % at later steps",
    ['Step', 'Mass kept', 'Set kept'],
    result.experiment.steps.map((step, at) => [
      String(step),
      formatRatio(massRecall[at]),
      formatRatio(setRecall[at]),
    ]),
  );
  const legend = h(
    'ul',
    { class: 'legend' },
    h('li', {}, h('i', { class: 'key-line key-mean', 'aria-hidden': 'true' }), 'mean of all layers'),
    h('li', {}, h('i', { class: 'key-line key-each', 'aria-hidden': 'true' }), 'a layer'),
  );
  body.append(plot, legend, table);
  onWidth(plot, (width) => draw(svg, page, width));
};

export const ageing = {
  id: 'ageing',
  question: 'How does a choice age?',
  mount,
} satisfies View<InspectPage>;
