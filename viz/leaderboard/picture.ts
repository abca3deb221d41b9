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
  /** On the front of this panel: named, and joined by the line. */
  readonly onFront: boolean;
  /** On the front of all panels together: coloured. */
  readonly best: boolean;
  /** False for a policy of its own size. */
  readonly atBudget: boolean;
}

export interface Panel {
  readonly title: string;
  readonly points: readonly Point[];
}

const PANEL = { width: 380, height: 340, left: 54, right: 12, top: 34, bottom: 40 };
const LABEL_HEIGHT = 12;

const STYLE = `
  text { font: 11px system-ui, sans-serif; fill: #333; }
  .title { font-weight: 600; font-size: 12px; }
  .axis { stroke: #999; } .grid { stroke: #e4e4e4; } .front { stroke: #1668b8; fill: none; stroke-width: 1.5; }
  .point { fill: #9a9a9a; } .best { fill: #1668b8; } .own { fill-opacity: 0.25; stroke: #9a9a9a; } .best.own { stroke: #1668b8; }
  @media (prefers-color-scheme: dark) {
    text { fill: #ddd; } .axis { stroke: #888; } .grid { stroke: #333; } .front { stroke: #6db3f2; } .best { fill: #6db3f2; } .best.own { stroke: #6db3f2; }
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

/** Places labels of one panel so that no two overlap: each goes to its point's height or the next free one above. */
const labelHeights = (ys: readonly number[]): readonly number[] => {
  const order = ys.map((_, i) => i).sort((a, b) => ys[b] - ys[a]);
  const placed = new Array<number>(ys.length).fill(0);
  let last = Infinity;
  for (const i of order) {
    last = Math.min(ys[i], last - LABEL_HEIGHT);
    placed[i] = last;
  }
  return placed;
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
  const at = (n: number): string => n.toFixed(1);
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
  const heights = labelHeights(front.map(({ y }) => py(y) - 6));
  front.forEach(({ name, x }, i) => {
    const isRight = px(x) > width - 110;
    parts.push(
      `<text x="${at(px(x) + (isRight ? -7 : 7))}" y="${at(heights[i])}"${isRight ? ' text-anchor="end"' : ''}>${escapeHtml(name)}</text>`,
    );
  });
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
