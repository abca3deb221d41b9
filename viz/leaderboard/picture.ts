/**
 * The leaderboard's picture: cost against error in three panels, Pareto fronts drawn and named. An SVG as text, light or
 * dark with the reader's system; no script, nothing loaded.
 */
import { escapeHtml } from '../report/shell.ts';

export interface Point {
  readonly name: string;
  /** Relative to full attention, above 0. */
  readonly x: number;
  /** Error of attention outputs, 0 or more. */
  readonly y: number;
  /** On the front of this panel: joined by the line, and named. */
  readonly onFront: boolean;
  /** On the front of all panels together: coloured, and named. */
  readonly best: boolean;
  /** False for a policy of its own size. */
  readonly atBudget: boolean;
}

export interface Panel {
  readonly title: string;
  readonly points: readonly Point[];
}

const PANEL = { width: 380, height: 340, left: 54, right: 12, top: 34, bottom: 40 };
/** Room that a label takes, px. */
const LABEL = { width: 80, height: 13 };

const STYLE = `
  text { font: 11px system-ui, sans-serif; fill: #333; }
  .title { font-weight: 600; font-size: 12px; }
  .name { paint-order: stroke; stroke: #fff; stroke-opacity: 0.8; stroke-width: 3px; } .leader { stroke: #777; stroke-width: 0.7; }
  .axis { stroke: #999; } .grid { stroke: #e4e4e4; } .front { stroke: #1668b8; fill: none; stroke-width: 1.5; }
  .point { fill: #9a9a9a; } .best { fill: #1668b8; } .own { fill-opacity: 0.25; stroke: #9a9a9a; } .best.own { stroke: #1668b8; }
  @media (prefers-color-scheme: dark) {
    text { fill: #ddd; } .name { stroke: #0d1117; } .leader { stroke: #999; } .axis { stroke: #888; } .grid { stroke: #333; } .front { stroke: #6db3f2; } .best { fill: #6db3f2; } .best.own { stroke: #6db3f2; }
  }`;

/** Powers of ten, and twice and five times those, within a range. */
const logTicks = (from: number, to: number): readonly number[] => {
  const ticks: number[] = [];
  for (let exponent = -6; exponent <= 6; exponent++) {
    for (const digit of [1, 2, 5]) {
      const tick = Number(`${digit}e${exponent}`);
      if (tick >= from && tick <= to) ticks.push(tick);
    }
  }
  return ticks.length > 7 ? ticks.filter((tick) => /^[0.]*1/.test(String(tick))) : ticks;
};

const at = (n: number): string => n.toFixed(1);

/** Heights of one panel's labels, so that no two overlap: each at its point or at the next free height above. */
const labelHeights = (places: readonly { readonly x: number; readonly y: number }[]): readonly number[] => {
  const order = places.map((_, i) => i).sort((a, b) => places[b].y - places[a].y);
  const placed: { readonly x: number; readonly y: number; readonly i: number }[] = [];
  for (const i of order) {
    let { x, y } = places[i];
    const inTheWay = () =>
      placed.find((other) => Math.abs(other.x - x) < LABEL.width && Math.abs(other.y - y) < LABEL.height);
    // Each move is up, so it ends.
    for (let other = inTheWay(); other !== undefined; other = inTheWay()) y = other.y - LABEL.height;
    placed.push({ x, y, i });
  }
  return placed.sort((a, b) => a.i - b.i).map(({ y }) => y);
};

/** Names beside their points, px; one that had to move further than its own height is tied to its point by a line. */
const drawNames = (
  points: readonly { readonly name: string; readonly x: number; readonly y: number }[],
): readonly string[] => {
  const heights = labelHeights(points.map(({ x, y }) => ({ x, y: y - 6 })));
  return points.flatMap(({ name, x, y }, i) => {
    const side = x > PANEL.width - 110 ? -1 : 1;
    const isFar = y - 6 - heights[i] > LABEL.height;
    const textX = x + side * (isFar ? 14 : 7);
    const leader = `<line class="leader" x1="${at(x)}" y1="${at(y)}" x2="${at(textX - 2 * side)}" y2="${at(heights[i] - 4)}"/>`;
    return [
      ...(isFar ? [leader] : []),
      `<text class="name" x="${at(textX)}" y="${at(heights[i])}"${side < 0 ? ' text-anchor="end"' : ''}>${escapeHtml(name)}</text>`,
    ];
  });
};

/** Errors span decades: their axis is logarithmic, and what is below its foot lies on it. */
const FOOT = 0.005;
const ERROR_TICKS = [FOOT, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2];

const drawPanel = ({ title, points }: Panel, yMax: number, offset: number): string => {
  const { width, height, left, right, top, bottom } = PANEL;
  const xs = points.map(({ x }) => x);
  const [from, to] = [Math.min(...xs) / 1.3, Math.max(...xs) * 1.6];
  const logSpan = Math.log10(to) - Math.log10(from);
  const px = (x: number): number =>
    left + ((Math.log10(x) - Math.log10(from)) / logSpan) * (width - left - right);
  const errorSpan = Math.log10(yMax / FOOT);
  const py = (y: number): number =>
    height - bottom - (Math.log10(Math.max(FOOT, y) / FOOT) / errorSpan) * (height - top - bottom);
  const parts = [`<text class="title" x="${left}" y="${top - 16}">${escapeHtml(title)}</text>`];
  for (const tick of logTicks(from, to)) {
    parts.push(
      `<line class="grid" x1="${at(px(tick))}" x2="${at(px(tick))}" y1="${top}" y2="${height - bottom}"/>`,
    );
    parts.push(`<text x="${at(px(tick))}" y="${height - bottom + 15}" text-anchor="middle">${tick}×</text>`);
  }
  for (const tick of ERROR_TICKS.filter((tick) => tick <= yMax)) {
    const y = py(tick);
    const text = tick === FOOT ? `≤ ${100 * FOOT} %` : `${Math.round(100 * tick)} %`;
    parts.push(`<line class="grid" x1="${left}" x2="${width - right}" y1="${at(y)}" y2="${at(y)}"/>`);
    parts.push(`<text x="${left - 6}" y="${at(y + 4)}" text-anchor="end">${text}</text>`);
  }
  parts.push(`<path class="axis" fill="none" d="M${left} ${top}V${height - bottom}H${width - right}"/>`);
  const front = points.filter(({ onFront }) => onFront).sort((a, b) => a.x - b.x || b.y - a.y);
  const steps = front.map(({ x, y }, i) =>
    i === 0 ? `M${at(px(x))} ${at(py(y))}` : `H${at(px(x))}V${at(py(y))}`,
  );
  if (front.length > 1) parts.push(`<path class="front" d="${steps.join('')}"/>`);
  for (const { name, x, y, best, atBudget } of points) {
    const kind = `point${best ? ' best' : ''}${atBudget ? '' : ' own'}`;
    parts.push(
      `<circle class="${kind}" cx="${at(px(x))}" cy="${at(py(y))}" r="4"><title>${escapeHtml(name)}</title></circle>`,
    );
  }
  parts.push(
    ...drawNames(
      points
        .filter(({ onFront, best }) => onFront || best)
        .map((one) => ({ name: one.name, x: px(one.x), y: py(one.y) })),
    ),
  );
  return `<g transform="translate(${offset} 0)">\n${parts.join('\n')}\n</g>`;
};

/** The panels side by side on one scale of errors; `caption` is read to those who cannot see it. */
export const drawLeaderboard = (panels: readonly Panel[], caption: string): string => {
  const errors = panels.flatMap(({ points }) => points.map(({ y }) => y));
  const yMax = Math.max(0.02, 1.1 * Math.max(...errors));
  const width = panels.length * PANEL.width;
  const drawn = panels.map((panel, i) => drawPanel(panel, yMax, i * PANEL.width));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${PANEL.height}" width="${width}" role="img">`,
    `<title>${escapeHtml(caption)}</title>`,
    `<style>${STYLE}\n</style>`,
    ...drawn,
    '</svg>\n',
  ].join('\n');
};
