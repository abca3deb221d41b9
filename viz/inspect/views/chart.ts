/** The frame that the inspection's line charts share: a 0 to 100 % axis with a grid, axis titles, a picture's margins. */
import { axisLeft, format, type ScaleLinear, scaleLinear } from 'd3';
import type { SvgSelection } from '../../app/dom.ts';

export const height = 340;
export const margin = { top: 26, right: 20, bottom: 42, left: 52 };

/** Draws the vertical axis of shares and returns its scale. */
export const drawShareAxis = (
  svg: SvgSelection,
  width: number,
  rightPx: number,
): ScaleLinear<number, number> => {
  const y = scaleLinear()
    .domain([0, 1])
    .range([height - margin.bottom, margin.top]);
  svg
    .append('g')
    .attr('class', 'axis grid')
    .attr('transform', `translate(${margin.left},0)`)
    .attr('aria-hidden', 'true')
    .call(
      axisLeft(y)
        .ticks(5)
        .tickSize(-(width - margin.left - rightPx))
        .tickFormat((v) => format('.0%')(Number(v)).replace('%', ' %')),
    );
  return y;
};

export const axisTitle = (svg: SvgSelection, text: string, x: number, y: number, anchor: string): void => {
  svg
    .append('text')
    .attr('class', 'axis-title')
    .attr('x', x)
    .attr('y', y)
    .attr('text-anchor', anchor)
    .attr('aria-hidden', 'true')
    .text(text);
};

/** Pushes labels apart so that each has `roomPx`, keeping their order; the new heights, by index. */
export const spread = (heights: readonly number[], roomPx: number, lowest: number): readonly number[] => {
  const order = heights.map((_, at) => at).sort((a, b) => heights[a] - heights[b]);
  const placed = [...heights];
  for (let i = 1; i < order.length; i++)
    placed[order[i]] = Math.max(placed[order[i]], placed[order[i - 1]] + roomPx);
  // What was pushed below the picture moves up again, from the bottom.
  for (let i = order.length - 1, limit = lowest; i >= 0; i--) {
    placed[order[i]] = Math.min(placed[order[i]], limit);
    limit = placed[order[i]] - roomPx;
  }
  return placed;
};
