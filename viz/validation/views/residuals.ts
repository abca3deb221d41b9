/** Errors by policy: one row each, a mark a case, and how much a second measurement differs from the first. */
import { axisBottom, scaleLinear, scalePoint } from 'd3';
import {
  axisAt,
  hiddenTable,
  onWidth,
  plotOf,
  type SvgSelection,
  svgRoot,
  writeWithin,
} from '../../app/dom.ts';
import type { Frame, View } from '../../app/view.ts';
import { axisTitle } from '../../inspect/views/chart.ts';
import { errorOf, groupOf, signed, type ValidatedCase, type ValidationPage } from '../page.ts';
import { residualFinding } from '../words.ts';
import { drawMarks, regimeLegend } from './marks.ts';

const rowPx = 21;
const margin = { top: 26, right: 24, bottom: 44, left: 132 };
/** Half of the axis at least, and the most that is drawn: what lies beyond stands at the edge. */
const LEAST = 0.15;
const MOST = 1;

const policiesOf = (cases: readonly ValidatedCase[]): readonly string[] => [
  ...new Set(cases.map(({ policy }) => policy)),
];

const draw = (svg: SvgSelection, page: ValidationPage, width: number): void => {
  svg.selectAll('*').remove();
  const { cases, summary } = page.result;
  const policies = policiesOf(cases);
  const height = margin.top + margin.bottom + rowPx * policies.length;
  svg.attr('width', width).attr('height', height);
  const reach = Math.min(MOST, Math.max(LEAST, ...cases.map((one) => 1.1 * Math.abs(errorOf(one)))));
  const x = scaleLinear()
    .domain([-reach, reach])
    .range([margin.left, width - margin.right]);
  const y = scalePoint<string>()
    .domain(policies)
    .range([margin.top + rowPx / 2, height - margin.bottom - rowPx / 2]);
  const noise = summary.noiseApe ?? 0;
  const bandOf = (className: string, half: number): void => {
    svg
      .append('rect')
      .attr('class', className)
      .attr('x', x(-half))
      .attr('width', Math.max(0, x(half) - x(-half)))
      .attr('y', margin.top)
      .attr('height', rowPx * policies.length);
  };
  bandOf('tolerance', Math.min(reach, 0.1));
  bandOf('noise', Math.min(reach, noise));
  svg
    .append('line')
    .attr('class', 'identity')
    .attr('x1', x(0))
    .attr('x2', x(0))
    .attr('y1', margin.top)
    .attr('y2', height - margin.bottom);
  axisAt(svg, 0, height - margin.bottom).call(
    axisBottom(x)
      .ticks(width < 460 ? 3 : 5)
      .tickFormat((v) => `${Math.round(100 * Number(v))} %`)
      .tickSizeOuter(0),
  );
  for (const policy of policies)
    svg
      .append('text')
      .attr('class', 'row-label')
      .attr('aria-hidden', 'true')
      .attr('x', margin.left - 10)
      .attr('y', y(policy) ?? 0)
      .attr('dy', '0.35em')
      .attr('text-anchor', 'end')
      .each(function () {
        writeWithin(this, margin.left - 10, policy);
      });
  const beyond = cases.some((one) => Math.abs(errorOf(one)) > reach);
  const edge = beyond ? `; beyond ±${Math.round(100 * reach)} % at the edge` : '';
  axisTitle(svg, `error of the prediction${edge}`, width - margin.right, height - 8, 'end');
  axisTitle(svg, 'grey: within 10 %; green: noise of measuring', 0, 12, 'start');
  drawMarks(svg.append('g'), page, cases, (one) => [
    x(Math.max(-reach, Math.min(reach, errorOf(one)))),
    y(one.policy) ?? 0,
  ]);
};

const mount = ({ caption, body }: Frame, page: ValidationPage): void => {
  const { result } = page;
  caption.textContent = residualFinding(result);
  const svg = svgRoot('residual-plot', 'Errors of predictions by policy');
  const plot = plotOf(svg);
  const table = hiddenTable(
    'Errors by policy',
    ['Policy', 'Case', 'Error'],
    result.cases.map((one) => [one.policy, groupOf(one), signed(errorOf(one))]),
  );
  body.append(plot, regimeLegend(result.cases), table);
  onWidth(plot, (width) => draw(svg, page, width));
};

export const residuals = {
  id: 'residuals',
  question: 'Where is the model off?',
  mount,
} satisfies View<ValidationPage>;
