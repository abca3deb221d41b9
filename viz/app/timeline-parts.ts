/** The pieces around the timeline's drawing: tip lines, legend entries, the step picker and the key hints. */
import type { Timeline } from '../../sim/timing/timeline.ts';
import type { StepRows } from './analysis.ts';
import { h, svgRoot } from './dom.ts';
import { formatBytes, formatNs, formatRatio } from './format.ts';
import { kindFill } from './patterns.ts';
import type { TipLine } from './tip.ts';

/** What the tip says of the operations under one bar; `fromNs` is the start of the step. */
export const markLines = (
  timeline: Timeline,
  rows: readonly number[],
  fromNs: number,
): readonly TipLine[] => {
  const [row] = rows;
  const startNs = timeline.startNs[row];
  const endNs = rows.reduce((latest, at) => Math.max(latest, timeline.endNs[at]), 0);
  const sizeBytes = rows.reduce((sum, at) => sum + timeline.bytes[at], 0);
  const layer = timeline.layer[row];
  const lines: TipLine[] = [
    ['layer', layer < 0 ? 'none' : String(layer)],
    ['stream', timeline.streams[timeline.stream[row]]],
    ['duration', formatNs(endNs - startNs)],
    ['starts at', formatNs(startNs - fromNs)],
    ['bytes', sizeBytes === 0 ? 'none' : formatBytes(sizeBytes)],
  ];
  if (rows.length > 1) lines.unshift(['operations', `${rows.length}, zoom in to tell apart`]);
  if (sizeBytes > 0 && endNs > startNs)
    lines.push(['rate', `${formatBytes((sizeBytes / (endNs - startNs)) * 1e9)}/s`]);
  return lines;
};

/** One kind of operation with its swatch, its time in the step and the share of the step's `wholeNs`. */
export const kindLegendItem = (kind: string, timeNs: number, wholeNs: number): HTMLElement => {
  const swatch = svgRoot('swatch', kind).attr('aria-hidden', 'true').attr('width', 18).attr('height', 12);
  swatch.append('rect').attr('width', 18).attr('height', 12).attr('fill', kindFill(kind));
  const share = wholeNs > 0 ? ` · ${formatRatio(timeNs / wholeNs)}` : '';
  const node = swatch.node();
  return h('li', {}, ...(node === null ? [] : [node]), kind, h('b', {}, `${formatNs(timeNs)}${share}`));
};

export interface StepPicker {
  readonly element: HTMLElement;
  show(steps: readonly StepRows[], at: number): void;
}

/** A slider with two buttons over the recorded steps; `onPick` gets a position, which may be out of range. */
export const stepPicker = (onPick: (at: number) => void): StepPicker => {
  const range = h('input', { type: 'range', min: '0', max: '0', step: '1', 'aria-label': 'Step' });
  const output = h('output', {});
  const button = (text: string, label: string, by: number): HTMLElement => {
    const element = h('button', { type: 'button', 'aria-label': label }, text);
    element.addEventListener('click', () => onPick(Number(range.value) + by));
    return element;
  };
  range.addEventListener('input', () => onPick(Number(range.value)));
  return {
    element: h(
      'span',
      { class: 'steps' },
      button('‹', 'Previous step', -1),
      range,
      button('›', 'Next step', 1),
      output,
    ),
    show(steps, at) {
      range.max = String(steps.length - 1);
      range.value = String(at);
      const { step, fromNs, toNs } = steps[at];
      const name = step < 0 ? 'prefill' : `step ${step}`;
      range.setAttribute('aria-valuetext', name);
      output.textContent = `${name} · ${formatNs(toNs - fromNs)}`;
    },
  };
};

const hints: readonly (readonly [keys: readonly string[], action: string])[] = [
  [['W', 'S'], 'zoom'],
  [['A', 'D'], 'pan'],
  [['.', ','], 'next and previous operation'],
  [['F'], 'fit it'],
  [['0'], 'whole step'],
  [['Esc'], 'clear'],
];

export const keyHints = (): HTMLElement =>
  h(
    'p',
    { class: 'note hints' },
    ...hints.map(([keys, action]) => h('span', {}, ...keys.map((key) => h('kbd', {}, key)), ` ${action}`)),
    h('span', {}, 'drag pans; the wheel zooms after a click, or with Ctrl'),
  );
