/** Time by kind of operation over all cases: measured as bars, predicted as outlines over them. */
import { axisBottom, scaleBand, scaleLinear } from 'd3';
import {
  axisAt,
  hiddenTable,
  onWidth,
  plotOf,
  type SvgSelection,
  svgRoot,
  writeWithin,
} from '../../app/dom.ts';
import { formatNs } from '../../app/format.ts';
import type { Frame, View } from '../../app/view.ts';
import { axisTitle } from '../../inspect/views/chart.ts';
import { signed, type ValidationPage } from '../page.ts';
import { kindFinding, kindSums } from '../words.ts';

const rowPx = 24;
const margin = { top: 26, right: 24, bottom: 44, left: 150 };
/** Kinds that take less than this share of the longest are not drawn; the table has them. */
const LEAST_SHARE = 0.001;
const MOST_ROWS = 16;

const draw = (svg: SvgSelection, { result, tip }: ValidationPage, width: number): void => {
  svg.selectAll('*').remove();
  const sums = kindSums(result);
  const shown = sums
    .filter(({ measuredNs }) => measuredNs >= LEAST_SHARE * sums[0].measuredNs)
    .slice(0, MOST_ROWS);
  const height = margin.top + margin.bottom + rowPx * shown.length;
  svg.attr('width', width).attr('height', height);
  const most = Math.max(...shown.flatMap(({ measuredNs, predictedNs }) => [measuredNs, predictedNs]));
  const x = scaleLinear()
    .domain([0, most])
    .range([margin.left, width - margin.right]);
  const y = scaleBand<string>()
    .domain(shown.map(({ kind }) => kind))
    .range([margin.top, height - margin.bottom])
    .padding(0.3);
  axisAt(svg, 0, height - margin.bottom).call(
    axisBottom(x)
      .ticks(width < 460 ? 3 : 5, formatNs)
      .tickSizeOuter(0)
      .tickFormat((v) => formatNs(Number(v))),
  );
  for (const { kind, measuredNs, predictedNs } of shown) {
    const top = y(kind) ?? 0;
    const bar = (className: string, ns: number) =>
      svg
        .append('rect')
        .attr('class', className)
        .attr('x', margin.left)
        .attr('y', top)
        .attr('width', Math.max(0, x(ns) - margin.left))
        .attr('height', y.bandwidth());
    bar('bar-measured', measuredNs);
    bar('bar-predicted', predictedNs);
    svg
      .append('text')
      .attr('class', 'row-label')
      .attr('aria-hidden', 'true')
      .attr('x', margin.left - 10)
      .attr('y', top + y.bandwidth() / 2)
      .attr('dy', '0.35em')
      .attr('text-anchor', 'end')
      .each(function () {
        writeWithin(this, margin.left - 10, kind);
      });
    svg
      .append('rect')
      .attr('class', 'hit')
      .attr('fill', 'transparent')
      .attr('x', 0)
      .attr('y', top)
      .attr('width', width)
      .attr('height', y.bandwidth())
      .on('pointerenter', function () {
        tip.show(this, kind, [
          ['measured', formatNs(measuredNs)],
          ['predicted', formatNs(predictedNs)],
          ['error', measuredNs > 0 ? signed(predictedNs / measuredNs - 1) : '–'],
        ]);
      })
      .on('pointerleave', () => tip.hide());
  }
  axisTitle(svg, 'time alone, all cases', width - margin.right, height - 8, 'end');
  axisTitle(svg, 'bars: measured; outlines: predicted', 0, 12, 'start');
};

const mount = ({ caption, body }: Frame, page: ValidationPage): void => {
  const { result } = page;
  caption.textContent = kindFinding(result);
  const svg = svgRoot('operation-plot', 'Time by kind of operation');
  const plot = plotOf(svg);
  const table = hiddenTable(
    'Time by kind of operation',
    ['Operation', 'Measured', 'Predicted'],
    kindSums(result).map(({ kind, measuredNs, predictedNs }) => [
      kind,
      formatNs(measuredNs),
      formatNs(predictedNs),
    ]),
  );
  body.append(plot, table);
  onWidth(plot, (width) => draw(svg, page, width));
};

export const operations = {
  id: 'operations',
  question: 'Which operations are off?',
  mount,
} satisfies View<ValidationPage>;
