/** Predicted against measured, both logarithmic: the identity line, and a band of ten percent around it. */
import { area, axisBottom, axisLeft, extent, scaleLog } from 'd3';
import { axisAt, hiddenTable, onWidth, plotOf, type SvgSelection, svgRoot } from '../../app/dom.ts';
import { formatNs } from '../../app/format.ts';
import type { Frame, View } from '../../app/view.ts';
import { axisTitle } from '../../inspect/views/chart.ts';
import { errorOf, groupOf, signed, type ValidationPage } from '../page.ts';
import { scatterFinding } from '../words.ts';
import { drawMarks, regimeLegend } from './marks.ts';

const height = 400;
const margin = { top: 26, right: 20, bottom: 44, left: 66 };
const BAND = 0.1;

const draw = (svg: SvgSelection, page: ValidationPage, width: number): void => {
  svg.selectAll('*').remove();
  svg.attr('width', width).attr('height', height);
  const { cases } = page.result;
  const [low = 1, high = 10] = extent(
    cases.flatMap(({ predictedNs, measuredNs }) => [predictedNs, measuredNs]),
  );
  const domain = [low / 1.5, high * 1.5];
  const x = scaleLog()
    .domain(domain)
    .range([margin.left, width - margin.right]);
  const y = scaleLog()
    .domain(domain)
    .range([height - margin.bottom, margin.top]);
  const band = area<number>(
    (ns) => x(ns),
    (ns) => y(Math.max(domain[0], ns * (1 - BAND))),
    (ns) => y(Math.min(domain[1], ns * (1 + BAND))),
  );
  // Where an edge of the band meets an edge of the plot, it bends.
  const bends = [domain[0], domain[0] / (1 - BAND), domain[1] / (1 + BAND), domain[1]];
  svg.append('path').attr('class', 'tolerance').attr('d', band(bends));
  svg
    .append('line')
    .attr('class', 'identity')
    .attr('x1', x(domain[0]))
    .attr('y1', y(domain[0]))
    .attr('x2', x(domain[1]))
    .attr('y2', y(domain[1]));
  const ticks = width < 460 ? 3 : 5;
  axisAt(svg, 0, height - margin.bottom).call(axisBottom(x).ticks(ticks, formatNs).tickSizeOuter(0));
  axisAt(svg, margin.left, 0).call(axisLeft(y).ticks(ticks, formatNs).tickSizeOuter(0));
  axisTitle(svg, 'measured time of a step', width - margin.right, height - 8, 'end');
  axisTitle(svg, 'predicted; band: within 10 %', 0, 12, 'start');
  drawMarks(svg.append('g'), page, cases, (one) => [x(one.measuredNs), y(one.predictedNs)]);
};

const mount = ({ caption, body }: Frame, page: ValidationPage): void => {
  const { result } = page;
  caption.textContent = scatterFinding(result);
  const svg = svgRoot('scatter-plot', 'Predicted against measured time of a step');
  const plot = plotOf(svg);
  const table = hiddenTable(
    'Predicted and measured time of each case',
    ['Policy', 'Case', 'Measured', 'Predicted', 'Error'],
    result.cases.map((one) => [
      one.policy,
      groupOf(one),
      formatNs(one.measuredNs),
      formatNs(one.predictedNs),
      signed(errorOf(one)),
    ]),
  );
  body.append(plot, regimeLegend(result.cases), table);
  onWidth(plot, (width) => draw(svg, page, width));
};

export const scatter = {
  id: 'scatter',
  question: 'How close are the predictions?',
  mount,
} satisfies View<ValidationPage>;
