/** Quality against time: a point a policy, mass recall over step time (log), with the frontier of those that fit. */
import {
  axisBottom,
  axisLeft,
  curveStepAfter,
  format,
  line,
  type ScaleLogarithmic,
  scaleLinear,
  scaleLog,
  symbol,
  symbolCircle,
  symbolDiamond,
} from 'd3';
import type { PolicyResult } from '../../../sim/result.ts';
import { boundaryBytes, boundaryKeys, frontier, massRecall } from '../analysis.ts';
import { axisAt, h, hiddenTable, onWidth, plotOf, type SvgSelection, svgRoot } from '../dom.ts';
import { scatterFinding } from '../findings.ts';
import { formatNs, formatRatio } from '../format.ts';
import { placeLabels } from '../labels.ts';
import type { Frame, Report, View } from '../view.ts';

const height = 340;
/** Room of the axis's title above the plot. */
const AXIS_TITLE_PX = 20;
const margin = { top: 30, right: 24, bottom: 42, left: 64 };
/** Strip under the plot for policies without a quality, so that their time still shows. */
const unknownPx = 30;
const tickRoomPx = 56;

const crossesLink = (policy: PolicyResult, keys: readonly string[]): boolean =>
  keys.some((key) => boundaryBytes(policy, key) > 1e6);

interface Scales {
  readonly x: (timeNs: number) => number;
  readonly y: (policy: PolicyResult) => number;
}

/** Ticks of the time axis that leave each other room: 1, 2 and 5 of each decade, or even ones in a short range. */
const timeTicks = (x: ScaleLogarithmic<number, number>): number[] => {
  const [fromNs, toNs] = x.domain();
  const all = x.ticks(6);
  const round = toNs / fromNs < 10 ? all : all.filter((tick) => /^[125]/.test(tick.toExponential()));
  let lastPx = Number.NEGATIVE_INFINITY;
  return round.filter((tick) => {
    if (x(tick) - lastPx < tickRoomPx) return false;
    lastPx = x(tick);
    return true;
  });
};

const drawAxes = (svg: SvgSelection, policies: readonly PolicyResult[], width: number): Scales => {
  const times = policies
    .flatMap(({ stepNs }) => [stepNs.p50, stepNs.mean, stepNs.p95])
    .filter((ns) => ns > 0);
  const measured = policies.filter((policy) => policy.quality !== null);
  const unknown = measured.length < policies.length;
  const domainNs: [number, number] = [Math.min(...times) / 1.18, Math.max(...times) * 1.3];
  const x = scaleLog()
    .domain(domainNs)
    .range([margin.left, width - margin.right]);
  const lowest = Math.min(0.95, ...measured.map(massRecall));
  const floor = Math.max(0, Math.floor((lowest - 0.02) * 20) / 20);
  const bottomPx = height - margin.bottom - (unknown ? unknownPx : 0);
  const y = scaleLinear()
    .domain([floor, 1])
    .range([bottomPx, margin.top + 8]);
  axisAt(svg, 0, height - margin.bottom).call(
    axisBottom(x)
      .tickValues(timeTicks(x))
      .tickSizeOuter(0)
      .tickFormat((ns) => formatNs(Number(ns)).replace(/\.0+ /, ' ')),
  );
  svg
    .append('g')
    .attr('class', 'axis grid')
    .attr('transform', `translate(${margin.left},0)`)
    .call(
      axisLeft(y)
        .ticks(5)
        .tickSize(-(width - margin.left - margin.right))
        .tickFormat((v) => format('.0%')(Number(v)).replace('%', ' %')),
    );
  const label = (text: string, atX: number, atY: number, anchor: string): void => {
    svg
      .append('text')
      .attr('class', 'axis-title')
      .attr('x', atX)
      .attr('y', atY)
      .attr('text-anchor', anchor)
      .text(text);
  };
  label('time of a decode step (log scale) · left is faster', width - margin.right, height - 8, 'end');
  label('attention mass kept · up is better', 0, AXIS_TITLE_PX - 6, 'start');
  const unknownY = height - margin.bottom - unknownPx / 2;
  if (unknown) label('unknown', margin.left - 8, unknownY + 4, 'end');
  return { x: (ns) => x(ns), y: (policy) => (policy.quality === null ? unknownY : y(massRecall(policy))) };
};

const drawFrontier = (svg: SvgSelection, policies: readonly PolicyResult[], scales: Scales): void => {
  const points = frontier(policies);
  const path = line<PolicyResult>((d) => scales.x(d.stepNs.mean), scales.y).curve(curveStepAfter);
  svg
    .append('path')
    .attr('class', 'frontier')
    .attr('d', path([...points]));
};

const drawPoints = (svg: SvgSelection, report: Report, scales: Scales): void => {
  const { policies } = report.result;
  const keys = boundaryKeys(policies);
  const shape = (policy: PolicyResult): string =>
    symbol(crossesLink(policy, keys) ? symbolDiamond : symbolCircle, 110)() ?? '';
  const points = svg
    .selectAll<SVGGElement, PolicyResult>('g.point')
    .data(policies)
    .join('g')
    .attr('class', (d) => `point${d.fits ? '' : ' misfit'}${crossesLink(d, keys) ? ' crosses' : ''}`)
    .attr('data-policy', (d) => d.policy)
    .attr('role', 'button')
    .attr('tabindex', -1)
    .attr('aria-label', (d) => `${d.policy}: ${formatNs(d.stepNs.mean)} a step, ${qualityText(d)}`)
    .attr('transform', (d) => `translate(${scales.x(d.stepNs.mean)},${scales.y(d)})`);
  points
    .append('line')
    .attr('class', 'whisker')
    .attr('x1', (d) => scales.x(d.stepNs.p50) - scales.x(d.stepNs.mean))
    .attr('x2', (d) => scales.x(d.stepNs.p95) - scales.x(d.stepNs.mean));
  points.append('circle').attr('class', 'halo').attr('r', 12);
  points.append('path').attr('class', 'dot').attr('d', shape);
  points
    .on('pointerenter focus', function (_, d) {
      report.store.set({ hovered: d.policy });
      report.tip.show(this, d.policy, tipLines(d));
    })
    .on('pointerleave blur', () => {
      report.store.set({ hovered: null });
      report.tip.hide();
    })
    .on('click', (_, d) => report.store.set({ policy: d.policy }));
};

const qualityText = (policy: PolicyResult): string =>
  policy.quality === null
    ? 'quality not measured'
    : `${formatRatio(massRecall(policy))} of the attention mass kept`;

const tipLines = (policy: PolicyResult): [string, string][] => [
  ['step time', formatNs(policy.stepNs.mean)],
  ['p50 to p95', `${formatNs(policy.stepNs.p50)} to ${formatNs(policy.stepNs.p95)}`],
  ['mass recall', policy.quality === null ? 'not measured' : formatRatio(massRecall(policy))],
  ['worst twentieth', policy.quality === null ? 'not measured' : formatRatio(policy.quality.massRecall.p5)],
  ['fits', policy.fits ? 'yes' : 'no'],
];

const drawLabels = (
  svg: SvgSelection,
  policies: readonly PolicyResult[],
  scales: Scales,
  width: number,
): void => {
  const points = policies.map((policy) => ({
    x: scales.x(policy.stepNs.mean),
    y: scales.y(policy),
    // 6.6 px: mean advance of the page's 12 px label font, enough to keep labels apart.
    widthPx: policy.policy.length * 6.6,
  }));
  const placed = placeLabels(points, {
    left: margin.left,
    right: width,
    top: AXIS_TITLE_PX,
    bottom: height - margin.bottom,
  });
  svg
    .selectAll('text.label')
    .data(policies)
    .join('text')
    .attr('class', (_, i) => `label${placed[i].isCrowded ? ' crowded' : ''}`)
    .attr('data-policy', (d) => d.policy)
    .attr('x', (_, i) => placed[i].x)
    .attr('y', (_, i) => placed[i].y + 4)
    .attr('text-anchor', (_, i) => placed[i].anchor)
    .attr('aria-hidden', 'true')
    .text((d) => d.policy);
};

/** Arrow keys walk the points by step time; Enter or Space selects. One point at a time is in the tab order. */
const bindKeys = (svg: SvgSelection, report: Report): void => {
  const ordered = [...report.result.policies].sort((a, b) => a.stepNs.mean - b.stepNs.mean);
  svg.on('keydown', (event: KeyboardEvent) => {
    const at = ordered.findIndex(({ policy }) => policy === report.store.get().hovered);
    if (event.key === 'Enter' || event.key === ' ') {
      if (at < 0) return;
      event.preventDefault();
      report.store.set({ policy: ordered[at].policy });
      return;
    }
    const move = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
    if (move === 0) return;
    event.preventDefault();
    const next = ordered[Math.max(0, Math.min(ordered.length - 1, at + move))].policy;
    svg
      .selectAll<SVGGElement, PolicyResult>('g.point')
      .filter((d) => d.policy === next)
      .node()
      ?.focus();
  });
};

const draw = (svg: SvgSelection, report: Report, width: number): void => {
  svg.selectAll('*').remove();
  svg.attr('width', width).attr('height', height);
  const { policies } = report.result;
  const scales = drawAxes(svg, policies, width);
  drawFrontier(svg, policies, scales);
  drawPoints(svg, report, scales);
  drawLabels(svg, policies, scales, width);
  markSelection(svg, report);
};

const markSelection = (svg: SvgSelection, { store }: Report): void => {
  const { policy, hovered } = store.get();
  svg
    .selectAll<SVGElement, PolicyResult>('g.point, text.label')
    .classed('selected', (d) => d.policy === policy)
    .classed('hovered', (d) => d.policy === hovered);
  svg.selectAll<SVGElement, PolicyResult>('g.point').attr('tabindex', (d) => (d.policy === policy ? 0 : -1));
};

const key = (className: string, text: string): HTMLElement =>
  h('li', {}, h('i', { class: `key ${className}`, 'aria-hidden': 'true' }), text);

const mount = ({ caption, body }: Frame, report: Report): void => {
  const { policies } = report.result;
  caption.textContent = scatterFinding(report.result);
  const svg = svgRoot('tradeoff-plot', 'Mass recall against step time; arrow keys walk the policies');
  const plot = plotOf(svg);
  const legend = h(
    'ul',
    { class: 'legend' },
    key('key-circle', 'KV stays in GPU memory'),
    key('key-diamond', 'KV crosses the host link'),
    key('key-frontier', 'nothing faster keeps more'),
    key('key-misfit', 'does not fit'),
  );
  const table = hiddenTable(
    'Quality against step time',
    ['Policy', 'Step time', 'Mass recall', 'Fits'],
    policies.map((d) => [
      d.policy,
      formatNs(d.stepNs.mean),
      d.quality === null ? 'not measured' : formatRatio(massRecall(d)),
      d.fits ? 'yes' : 'no',
    ]),
  );
  body.append(plot, legend, table);
  bindKeys(svg, report);
  report.store.subscribe(() => markSelection(svg, report));
  onWidth(plot, (width) => draw(svg, report, width));
};

export const tradeoff = {
  id: 'tradeoff',
  question: 'What does speed cost in quality?',
  mount,
} satisfies View;
