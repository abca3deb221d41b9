/** Draws one step: a lane a stream, a strip of layers above, a time axis below. Redrawn whole at every zoom. */
import { axisBottom, scaleLinear } from 'd3';
import type { Timeline } from '../../sim/timing/timeline.ts';
import type { LaneTime, StepRows } from './analysis.ts';
import { axisAt, type SvgSelection } from './dom.ts';
import { formatRatio } from './format.ts';
import { laneMarks, type Mark } from './lanes.ts';
import { kindFill } from './patterns.ts';
import { type TimeSpan, tickLabel } from './viewport.ts';

/** Room for the lanes' names, px. */
export const labelColumnPx = 116;

const layerStripPx = 20;
const laneGapPx = 8;
const axisPx = 28;
const charPx = 6.4;

const lanePx = (stream: string): number => (stream === 'compute' ? 56 : 40);

const laneNames: Readonly<Record<string, string>> = {
  compute: 'GPU kernels',
  h2d: 'copies in',
  d2h: 'copies out',
  cpu: 'host CPU',
  nvme: 'NVMe',
};

export interface TimelinePicture {
  readonly timeline: Timeline;
  readonly step: StepRows;
  readonly lanes: readonly LaneTime[];
  readonly span: TimeSpan;
  readonly width: number;
  /** Row with the keyboard's focus. */
  readonly focused: number | undefined;
  onHover(anchor: readonly [x: number, y: number], mark: Mark | undefined): void;
  onPick(mark: Mark): void;
}

interface LaneBox {
  readonly stream: string;
  readonly top: number;
  readonly height: number;
}

const laneBoxes = (streams: readonly string[]): readonly LaneBox[] => {
  let top = layerStripPx + 6;
  return streams.map((stream) => {
    const box = { stream, top, height: lanePx(stream) };
    top += box.height + laneGapPx;
    return box;
  });
};

/** Draws the picture into `svg`, which must be in the document for its tips to find their place. */
export const drawTimeline = (svg: SvgSelection, picture: TimelinePicture): void => {
  const { timeline, step, span, width } = picture;
  const plotPx = width - labelColumnPx;
  const boxes = laneBoxes(timeline.streams);
  const last = boxes[boxes.length - 1];
  const height = last.top + last.height + axisPx;
  svg.selectAll('*').remove();
  svg.attr('width', width).attr('height', height);
  const xOfNs = (timeNs: number): number => ((timeNs - span.fromNs) / (span.toNs - span.fromNs)) * plotPx;
  const plot = svg
    .append('svg')
    .attr('class', 'window')
    .attr('x', labelColumnPx)
    .attr('width', plotPx)
    .attr('height', height - axisPx + 2);
  drawLabels(svg, boxes, picture);
  drawLayers(plot, picture, xOfNs, plotPx);
  const backgrounds = plot.selectAll('rect.lane').data(boxes).join('rect').attr('class', 'lane');
  backgrounds
    .attr('y', (d) => d.top)
    .attr('height', (d) => d.height)
    .attr('width', plotPx)
    .attr('rx', 3);
  const marks = laneMarks(timeline, step, xOfNs, plotPx);
  drawMarks(plot, marks, boxes, picture);
  drawFocus(plot, boxes, picture, xOfNs);
  drawAxis(svg, picture, plotPx, height - axisPx + 2);
};

const drawLabels = (svg: SvgSelection, boxes: readonly LaneBox[], { lanes, step }: TimelinePicture): void => {
  const wholeNs = step.toNs - step.fromNs;
  const labels = svg.selectAll('g.lane-label').data(boxes).join('g').attr('class', 'lane-label');
  labels.attr('transform', (d) => `translate(0,${d.top + d.height / 2})`);
  labels
    .append('text')
    .attr('class', 'lane-name')
    .attr('y', -2)
    .text((d) => laneNames[d.stream] ?? d.stream);
  labels
    .append('text')
    .attr('class', 'lane-busy')
    .attr('y', 13)
    .text((d) => {
      const busyNs = lanes.find(({ stream }) => stream === d.stream)?.busyNs ?? 0;
      return wholeNs > 0 ? `${formatRatio(busyNs / wholeNs)} busy` : '';
    });
  svg.append('text').attr('class', 'lane-busy').attr('y', 14).text('layer');
};

/** A strip of alternating bands, one a layer, from the layer's first kernel to the next layer's. */
const drawLayers = (
  plot: SvgSelection,
  { timeline, step }: TimelinePicture,
  xOfNs: (ns: number) => number,
  plotPx: number,
): void => {
  const compute = timeline.streams.indexOf('compute');
  const bands: { layer: number; fromNs: number; toNs: number }[] = [];
  for (const row of step.rows) {
    if (timeline.stream[row] !== compute) continue;
    const last = bands[bands.length - 1];
    if (last?.layer === timeline.layer[row]) last.toNs = timeline.endNs[row];
    else bands.push({ layer: timeline.layer[row], fromNs: timeline.startNs[row], toNs: timeline.endNs[row] });
  }
  const seen = bands.filter((band) => band.layer >= 0 && xOfNs(band.toNs) > 0 && xOfNs(band.fromNs) < plotPx);
  const groups = plot
    .selectAll('g.layer')
    .data(seen)
    .join('g')
    .attr('class', (d) => `layer ${d.layer % 2 === 0 ? 'even' : 'odd'}`);
  const left = (d: { fromNs: number }): number => Math.max(0, xOfNs(d.fromNs));
  const bandPx = (d: { fromNs: number; toNs: number }): number => Math.min(plotPx, xOfNs(d.toNs)) - left(d);
  groups
    .append('rect')
    .attr('x', left)
    .attr('width', (d) => Math.max(0, bandPx(d)))
    .attr('height', layerStripPx - 4)
    .attr('y', 2);
  groups
    .filter((d) => bandPx(d) > 18)
    .append('text')
    .attr('x', (d) => left(d) + bandPx(d) / 2)
    .attr('y', 14)
    .attr('text-anchor', 'middle')
    .text((d) => d.layer);
};

const markPx = (mark: Mark): number => Math.max(0.6, mark.toPx - mark.fromPx);

const drawMarks = (
  plot: SvgSelection,
  marks: readonly Mark[],
  boxes: readonly LaneBox[],
  picture: TimelinePicture,
): void => {
  plot
    .selectAll('rect.op')
    .data(marks)
    .join('rect')
    .attr('class', (d) => `op op-${d.kind === 'wait' ? 'wait' : 'work'}`)
    .attr('data-kind', (d) => d.kind)
    .attr('data-rows', (d) => d.rows.length)
    .attr('x', (d) => d.fromPx)
    .attr('width', markPx)
    .attr('y', (d) => boxes[d.lane].top + 3)
    .attr('height', (d) => boxes[d.lane].height - 6)
    .attr('fill', (d) => kindFill(d.kind))
    .on('pointermove', (event: PointerEvent, d) => picture.onHover([event.clientX, event.clientY], d))
    .on('pointerleave', () => picture.onHover([0, 0], undefined))
    .on('click', (_, d) => picture.onPick(d));
  const isRoomy = (d: Mark): boolean => markPx(d) > d.kind.length * charPx + 12;
  const named = marks.filter((d) => isRoomy(d) && d.toPx > 0);
  const nameX = (d: Mark): number => Math.max(0, d.fromPx) + 6;
  const tags = plot.selectAll('g.op-name').data(named).join('g').attr('class', 'op-name');
  tags.attr('transform', (d) => `translate(${nameX(d)},${boxes[d.lane].top + boxes[d.lane].height / 2})`);
  tags
    .append('rect')
    .attr('x', -3)
    .attr('y', -9)
    .attr('rx', 3)
    .attr('height', 18)
    .attr('width', (d) => d.kind.length * charPx + 8);
  tags
    .append('text')
    .attr('x', 1)
    .attr('y', 4)
    .text((d) => d.kind);
};

const drawFocus = (
  plot: SvgSelection,
  boxes: readonly LaneBox[],
  picture: TimelinePicture,
  xOfNs: (ns: number) => number,
): void => {
  const { timeline, focused } = picture;
  if (focused === undefined) return;
  const box = boxes[timeline.stream[focused]];
  const fromPx = xOfNs(timeline.startNs[focused]);
  plot
    .append('rect')
    .attr('class', 'focus')
    .attr('x', fromPx - 1.5)
    .attr('width', Math.max(1, xOfNs(timeline.endNs[focused]) - fromPx) + 3)
    .attr('y', box.top + 0.5)
    .attr('height', box.height - 1)
    .attr('rx', 2);
};

/** Times on the axis count from the start of the step. */
const drawAxis = (svg: SvgSelection, { span, step }: TimelinePicture, plotPx: number, y: number): void => {
  const x = scaleLinear([span.fromNs - step.fromNs, span.toNs - step.fromNs], [0, plotPx]);
  const ticks = x.ticks(Math.max(2, Math.floor(plotPx / 110)));
  const label = tickLabel(ticks);
  axisAt(svg, labelColumnPx, y).call(
    axisBottom(x)
      .tickValues(ticks)
      .tickSizeOuter(0)
      .tickFormat((ns) => label(Number(ns))),
  );
};
