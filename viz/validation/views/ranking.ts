/** Whether the model puts policies in the order that the machine does: measured rank, predicted rank, a line each. */
import { scalePoint } from 'd3';
import { h, hiddenTable, onWidth, plotOf, type SvgSelection, svgRoot, writeWithin } from '../../app/dom.ts';
import { formatNs } from '../../app/format.ts';
import type { Frame, View } from '../../app/view.ts';
import { axisTitle } from '../../inspect/views/chart.ts';
import { groupOf, type ValidatedCase, type ValidationPage } from '../page.ts';
import { largestGroup, rankingFinding } from '../words.ts';

const rowPx = 21;
const margin = { top: 44, bottom: 14 };
/** Between a label and its line. */
const gapPx = 8;

const draw = (svg: SvgSelection, page: ValidationPage, width: number): void => {
  svg.selectAll('*').remove();
  const group = largestGroup(page.result);
  const height = margin.top + margin.bottom + rowPx * group.length;
  svg.attr('width', width).attr('height', height);
  const side = Math.min(230, width * 0.42);
  const order = (of: (one: ValidatedCase) => number): readonly ValidatedCase[] =>
    [...group].sort((a, b) => of(a) - of(b));
  const measured = order(({ measuredNs }) => measuredNs);
  const predicted = order(({ predictedNs }) => predictedNs);
  const y = scalePoint<number>()
    .domain(group.map((_, at) => at))
    .range([margin.top + rowPx / 2, height - margin.bottom - rowPx / 2]);
  const placeOf = (list: readonly ValidatedCase[], one: ValidatedCase): number => y(list.indexOf(one)) ?? 0;
  const write = (
    list: readonly ValidatedCase[],
    x: number,
    anchor: string,
    ns: (one: ValidatedCase) => number,
  ) => {
    for (const one of list)
      svg
        .append('text')
        .attr('class', 'row-label')
        .attr('aria-hidden', 'true')
        .attr('x', x)
        .attr('y', placeOf(list, one))
        .attr('dy', '0.35em')
        .attr('text-anchor', anchor)
        .each(function () {
          // A time without its unit would say nothing.
          writeWithin(this, side - gapPx, one.policy, ` ${formatNs(ns(one))}`);
        });
  };
  axisTitle(svg, 'shortest first', width / 2, 12, 'middle');
  axisTitle(svg, 'measured', side - gapPx, 30, 'end');
  axisTitle(svg, 'predicted', width - side + gapPx, 30, 'start');
  write(measured, side - gapPx, 'end', ({ measuredNs }) => measuredNs);
  write(predicted, width - side + gapPx, 'start', ({ predictedNs }) => predictedNs);
  for (const one of group) {
    const moved = Math.abs(measured.indexOf(one) - predicted.indexOf(one));
    svg
      .append('line')
      .attr('class', moved > 1 ? 'rank-line crossed' : 'rank-line')
      .attr('x1', side)
      .attr('x2', width - side)
      .attr('y1', placeOf(measured, one))
      .attr('y2', placeOf(predicted, one));
  }
};

const mount = ({ caption, body, controls }: Frame, page: ValidationPage): void => {
  const { result } = page;
  caption.textContent = rankingFinding(result);
  const group = largestGroup(result);
  if (group.length > 0) controls.append(h('span', { class: 'quiet' }, groupOf(group[0])));
  const svg = svgRoot('ranking-plot', 'Order of policies, measured and predicted');
  const plot = plotOf(svg);
  const table = hiddenTable(
    'Order of policies',
    ['Policy', 'Measured', 'Predicted'],
    [...group]
      .sort((a, b) => a.measuredNs - b.measuredNs)
      .map((one) => [one.policy, formatNs(one.measuredNs), formatNs(one.predictedNs)]),
  );
  body.append(plot, table);
  onWidth(plot, (width) => draw(svg, page, width));
};

export const ranking = {
  id: 'ranking',
  question: 'Is the order of policies right?',
  mount,
} satisfies View<ValidationPage>;
