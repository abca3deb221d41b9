/** The traffic Sankey of the selected policy: bytes of one step between tiers, towards compute and away from it. */
import { boundaryBytes, type Flow, flowsOf } from '../analysis.ts';
import { h, hiddenTable, onWidth, plotOf, type SvgSelection, svgRoot } from '../dom.ts';
import { flowFinding, flowLabel } from '../findings.ts';
import { boundaryLabel, formatBytes, formatCount, tierLabel } from '../format.ts';
import {
  layoutSankey,
  type SankeyBox,
  type SankeyNode,
  type SankeyRibbon,
  sankeyScale,
} from '../sankey-layout.ts';
import { type Frame, policyPicker, type Report, type View } from '../view.ts';

const height = 340;
const margin = { top: 34, right: 34, bottom: 52, left: 34 };
/** Ribbons thinner than this are drawn this wide, or nobody would see them; the label has the truth. */
const thinnestPx = 1.5;

const shownColumns = ['dram', 'hbm', 'compute'];

const flowsNow = (report: Report): readonly Flow[] => {
  const policy = report.result.policies.find((item) => item.policy === report.store.get().policy);
  return policy === undefined ? [] : flowsOf(policy).filter((flow) => flow.bytes > 0);
};

const residentText = (report: Report, tier: string): string => {
  const policy = report.result.policies.find((item) => item.policy === report.store.get().policy);
  if (policy === undefined || (tier !== 'hbm' && tier !== 'dram' && tier !== 'nvme')) return '';
  const resident = policy.resident[tier];
  return resident === undefined ? '' : `${formatBytes(resident.kvPeakBytes)} of KV`;
};

const drawNodes = (svg: SvgSelection, nodes: readonly SankeyNode[], report: Report): void => {
  const groups = svg
    .selectAll('g.tier')
    .data(nodes)
    .join('g')
    .attr('class', (d) => `tier tier-${d.name}`);
  const bottomPx = height - margin.bottom;
  groups
    .append('rect')
    .attr('x', (d) => d.x)
    .attr('y', (d) => d.y)
    .attr('width', (d) => d.width)
    .attr('height', (d) => d.height)
    .attr('rx', 2);
  const anchor = (_: SankeyNode, i: number): string =>
    i === 0 ? 'start' : i === nodes.length - 1 ? 'end' : 'middle';
  const x = (d: SankeyNode, i: number): number =>
    d.x + (i === 0 ? 0 : i === nodes.length - 1 ? d.width : d.width / 2);
  groups
    .append('text')
    .attr('class', 'tier-name')
    .attr('x', x)
    .attr('y', margin.top - 16)
    .attr('text-anchor', anchor)
    .text((d) => tierLabel(d.name));
  groups
    .append('text')
    .attr('class', 'tier-resident')
    .attr('x', x)
    .attr('y', bottomPx + 26)
    .attr('text-anchor', anchor)
    .text((d) => residentText(report, d.name));
  groups
    .append('text')
    .attr('class', 'tier-resident')
    .attr('x', x)
    .attr('y', bottomPx + 42)
    .attr('text-anchor', anchor)
    .text((d) =>
      d.name === 'compute' ? 'attention and MLP' : residentText(report, d.name) === '' ? '' : 'at its peak',
    );
};

const labelY = (ribbon: SankeyRibbon): number => {
  const clearPx = Math.max(thinnestPx, ribbon.widthPx) / 2 + 7;
  const [, y] = ribbon.middle;
  if (ribbon.widthPx > 26) return y + 4;
  return ribbon.inward ? y - clearPx : y + clearPx + 9;
};

const drawRibbons = (svg: SvgSelection, ribbons: readonly SankeyRibbon[], report: Report): void => {
  const explain = (anchor: Element | readonly [number, number], d: SankeyRibbon): void =>
    report.tip.show(anchor, flowLabel(d), [
      ['per step', formatBytes(d.bytes)],
      ['exactly', `${formatCount(Math.round(d.bytes))} B`],
    ]);
  const groups = svg
    .selectAll<SVGGElement, SankeyRibbon>('g.flow')
    .data(ribbons)
    .join('g')
    .attr('class', (d) => `flow from-${d.from} ${d.inward ? 'inward' : 'outward'} ${d.what}`)
    .attr('tabindex', 0)
    .attr('role', 'img')
    .attr('aria-label', (d) => `${flowLabel(d)}: ${formatBytes(d.bytes)} a step`);
  groups
    .append('path')
    .attr('class', 'ribbon')
    .attr('d', (d) => d.path)
    .attr('data-bytes', (d) => d.bytes)
    .attr('data-width', (d) => d.widthPx)
    .attr('stroke-width', (d) => Math.max(thinnestPx, d.widthPx));
  groups
    .on('pointermove', (event: PointerEvent, d) => explain([event.clientX, event.clientY], d))
    .on('focus', function (_, d) {
      explain(this, d);
    })
    .on('pointerleave blur', report.tip.hide);
};

const labelText = (d: SankeyRibbon): string => {
  const text = `${d.what === 'weights' ? 'weights ' : ''}${formatBytes(d.bytes)}`;
  return d.inward ? `${text} ▸` : `◂ ${text}`;
};

const drawFlowLabels = (svg: SvgSelection, ribbons: readonly SankeyRibbon[]): void => {
  svg
    .selectAll('text.flow-label')
    .data(ribbons)
    .join('text')
    .attr('class', (d) => `flow-label${d.widthPx > 26 ? ' inside' : ''}`)
    .attr('x', (d) => d.middle[0])
    .attr('y', labelY)
    .attr('text-anchor', 'middle')
    .attr('aria-hidden', 'true')
    .text(labelText);
};

const mount = ({ controls, caption, body }: Frame, report: Report): void => {
  const { result, store } = report;
  const svg = svgRoot('flow-plot', 'Bytes of one step between the tiers');
  const plot = plotOf(svg);
  const same = h('input', { type: 'checkbox' });
  same.checked = true;
  const table = h('div', {});
  controls.append(policyPicker(report, 'Policy'), h('label', { class: 'switch' }, same, 'one scale for all'));
  const note = h(
    'p',
    { class: 'note' },
    'Widths are bytes a step; lines of 1.5 px stand for less. Hatched = away from compute.',
  );
  body.append(plot, note, table);
  let width = 0;
  const draw = (): void => {
    const policy = result.policies.find((item) => item.policy === store.get().policy);
    if (policy === undefined || width === 0) return;
    const box: SankeyBox = { width, height, margin };
    const flows = flowsNow(report);
    const scale = sankeyScale(same.checked ? result.policies.map(flowsOf) : [flows], box);
    const { nodes, ribbons } = layoutSankey(flows, shownColumns, scale, box);
    svg.selectAll('*').remove();
    svg.attr('width', width).attr('height', height);
    drawRibbons(svg, ribbons, report);
    drawNodes(svg, nodes, report);
    drawFlowLabels(svg, ribbons);
    caption.textContent = flowFinding(policy);
    const idle = ['dram->hbm', 'hbm->dram'].filter((key) => boundaryBytes(policy, key) === 0);
    table.replaceChildren(
      hiddenTable(
        `Bytes a step of ${policy.policy}`,
        ['Flow', 'Bytes a step'],
        [
          ...flows.map((flow) => [flowLabel(flow), formatBytes(flow.bytes)]),
          ...idle.map((key) => [boundaryLabel(key), 'none']),
        ],
      ),
    );
  };
  same.addEventListener('change', draw);
  store.subscribe((state, before) => {
    if (state.policy !== before.policy) draw();
  });
  onWidth(plot, (widthPx) => {
    width = widthPx;
    draw();
  });
};

export const flows = { id: 'flows', question: 'Where do the bytes go?', mount } satisfies View;
