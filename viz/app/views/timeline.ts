/** One step of the selected policy, a lane a stream: what ran when, and what waited. Zoom, pan and walk it by key. */

import type { Timeline } from '../../../sim/timing/timeline.ts';
import { laneTimes, type StepRows, splitSteps } from '../analysis.ts';
import { h, hiddenTable, onWidth } from '../dom.ts';
import { timelineFinding } from '../findings.ts';
import { formatBytes, formatNs, formatRatio } from '../format.ts';
import { kindTimes, type Mark } from '../lanes.ts';
import { kindFill } from '../patterns.ts';
import { drawTimeline, timelineSvg } from '../timeline-drawing.ts';
import { bindTimelineInput } from '../timeline-input.ts';
import type { TipLine } from '../tip.ts';
import { type Frame, policyPicker, type Report, type View } from '../view.ts';
import { fitTo, reveal, type TimeSpan } from '../viewport.ts';

interface Shown {
  readonly policy: string;
  readonly timeline: Timeline;
  readonly steps: readonly StepRows[];
}

/** Steps are split once a policy, when it is first looked at. */
const timelineIndex = (report: Report): ((policy: string) => Shown | undefined) => {
  const seen = new Map<string, Shown>();
  return (policy) => {
    const known = seen.get(policy);
    if (known !== undefined) return known;
    const found = report.timelines.find((item) => item.policy === policy);
    if (found === undefined || found.timeline.startNs.length === 0) return undefined;
    const shown = { ...found, steps: splitSteps(found.timeline) };
    seen.set(policy, shown);
    return shown;
  };
};

const markLines = (timeline: Timeline, rows: readonly number[], fromNs: number): TipLine[] => {
  const [row] = rows;
  const startNs = timeline.startNs[row];
  const endNs = rows.reduce((latest, at) => Math.max(latest, timeline.endNs[at]), 0);
  const sizeBytes = rows.reduce((sum, at) => sum + timeline.bytes[at], 0);
  const layer = timeline.layer[row];
  return [
    ...(rows.length > 1 ? [['operations', `${rows.length}, zoom in to tell apart`] satisfies TipLine] : []),
    ['layer', layer < 0 ? 'none' : String(layer)],
    ['stream', timeline.streams[timeline.stream[row]]],
    ['duration', formatNs(endNs - startNs)],
    ['starts at', formatNs(startNs - fromNs)],
    ['bytes', sizeBytes === 0 ? 'none' : formatBytes(sizeBytes)],
    ...(sizeBytes > 0 && endNs > startNs
      ? [['rate', `${(sizeBytes / (endNs - startNs)).toFixed(1)} GB/s`] satisfies TipLine]
      : []),
  ];
};

const legendItem = (kind: string, timeNs: number, wholeNs: number): HTMLElement => {
  const swatch = timelineSvg('swatch', '');
  swatch.attr('aria-hidden', 'true').attr('width', 18).attr('height', 12);
  swatch.append('rect').attr('class', 'op').attr('width', 18).attr('height', 12).attr('fill', kindFill(kind));
  const node = swatch.node();
  const share = wholeNs > 0 ? ` · ${formatRatio(timeNs / wholeNs)}` : '';
  return h('li', {}, ...(node === null ? [] : [node]), kind, h('b', {}, `${formatNs(timeNs)}${share}`));
};

interface StepPicker {
  readonly element: HTMLElement;
  show(steps: readonly StepRows[], at: number): void;
}

const stepPicker = (onPick: (at: number) => void): StepPicker => {
  const range = h('input', { type: 'range', min: '0', max: '0', step: '1', 'aria-label': 'Step' });
  const output = h('output', {});
  const move = (by: number): void => onPick(Number(range.value) + by);
  const button = (text: string, label: string, by: number): HTMLElement => {
    const element = h('button', { type: 'button', 'aria-label': label }, text);
    element.addEventListener('click', () => move(by));
    return element;
  };
  range.addEventListener('input', () => move(0));
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

const mount = ({ controls, caption, body }: Frame, report: Report): void => {
  const { store, tip, result } = report;
  const find = timelineIndex(report);
  const svg = timelineSvg(
    'timeline-plot',
    'Operations of one step by stream. W and S zoom, A and D pan, full stop and comma walk.',
  );
  const plot = h('div', { class: 'plot' }, ...[svg.node()].filter((node) => node !== null));
  const legend = h('ul', { class: 'legend kinds' });
  const live = h('p', { class: 'visually-hidden', 'aria-live': 'polite' });
  const table = h('div', {});
  let width = 0;
  let span: TimeSpan | undefined;
  let focused: number | undefined;

  const current = (): { shown: Shown; at: number; step: StepRows } | undefined => {
    const shown = find(store.get().policy);
    if (shown === undefined) return undefined;
    const exact = shown.steps.findIndex(({ step }) => step >= store.get().step);
    const at = exact < 0 ? shown.steps.length - 1 : exact;
    return { shown, at, step: shown.steps[at] };
  };
  const picker = stepPicker((at) => {
    const steps = current()?.shown.steps ?? [];
    if (steps[at] !== undefined) store.set({ step: steps[at].step });
  });
  const hint = h('p', { class: 'note' }, ...hintParts());
  controls.append(policyPicker(report, 'Policy'), picker.element);
  body.append(plot, legend, hint, live, table);

  const showTip = (anchor: Element | readonly [number, number], mark: Pick<Mark, 'rows' | 'kind'>): void => {
    const now = current();
    if (now === undefined) return;
    tip.show(anchor, mark.kind, markLines(now.shown.timeline, mark.rows, now.step.fromNs));
  };
  const showFocus = (): void => {
    const node = svg.select<SVGRectElement>('.focus').node();
    const now = current();
    if (node === null || now === undefined || focused === undefined) {
      tip.hide();
      return;
    }
    showTip(node, { rows: [focused], kind: now.shown.timeline.kinds[now.shown.timeline.kind[focused]] });
  };
  const redraw = (): void => {
    const now = current();
    if (now === undefined || width === 0) return;
    drawTimeline(svg, {
      timeline: now.shown.timeline,
      step: now.step,
      lanes: laneTimes(now.shown.timeline, now.step),
      span: span ?? now.step,
      width,
      focused,
      onHover: (anchor, mark) => (mark === undefined ? showFocus() : showTip(anchor, mark)),
      onPick: (mark) => focusRow(mark.rows[0]),
    });
  };
  const setSpan = (next: TimeSpan | undefined): void => {
    span = next;
    redraw();
  };
  const focusRow = (row: number | undefined): void => {
    focused = row;
    const now = current();
    if (now !== undefined && row !== undefined) {
      const { timeline } = now.shown;
      span = reveal(span ?? now.step, { fromNs: timeline.startNs[row], toNs: timeline.endNs[row] }, now.step);
      live.textContent = [
        timeline.kinds[timeline.kind[row]],
        ...markLines(timeline, [row], now.step.fromNs).map((line) => line.join(' ')),
      ].join(', ');
    }
    redraw();
    showFocus();
  };
  const walk = (by: number): void => {
    const now = current();
    if (now === undefined) return;
    const { stream } = now.shown.timeline;
    const lane = now.step.rows.filter((row) => focused === undefined || stream[row] === stream[focused]);
    const at = focused === undefined ? (by > 0 ? -1 : lane.length) : lane.indexOf(focused);
    focusRow(lane[Math.max(0, Math.min(lane.length - 1, at + by))]);
  };
  bindTimelineInput(svg, {
    width: () => width,
    whole: () => current()?.step,
    span: () => span ?? current()?.step,
    setSpan,
    walk,
    clear: () => focusRow(undefined),
    fit: () => {
      const now = current();
      if (now === undefined || focused === undefined) return;
      const { startNs, endNs } = now.shown.timeline;
      setSpan(fitTo({ fromNs: startNs[focused], toNs: endNs[focused] }, now.step));
      showFocus();
    },
  });
  const show = (): void => {
    const now = current();
    const policy = result.policies.find((item) => item.policy === store.get().policy);
    span = undefined;
    focused = undefined;
    body.classList.toggle('empty', now === undefined);
    if (now === undefined || policy === undefined) {
      caption.textContent = `No timeline was recorded for ${store.get().policy}.`;
      return;
    }
    const { timeline, steps } = now.shown;
    picker.show(steps, now.at);
    const lanes = laneTimes(timeline, now.step);
    caption.textContent = timelineFinding(policy, now.step, lanes);
    const wholeNs = now.step.toNs - now.step.fromNs;
    const times = kindTimes(timeline, now.step);
    legend.replaceChildren(...times.map(({ kind, timeNs }) => legendItem(kind, timeNs, wholeNs)));
    table.replaceChildren(
      hiddenTable(
        'Streams of the step',
        ['Stream', 'Busy', 'Alone'],
        lanes.map((lane) => [lane.stream, formatNs(lane.busyNs), formatNs(lane.exposedNs)]),
      ),
      hiddenTable(
        'Operations of the step',
        ['Operation', 'Time'],
        times.map(({ kind, timeNs }) => [kind, formatNs(timeNs)]),
      ),
    );
    redraw();
  };
  store.subscribe((state, before) => {
    if (state.policy !== before.policy || state.step !== before.step) show();
  });
  show();
  onWidth(plot, (widthPx) => {
    width = widthPx;
    redraw();
  });
};

const hintParts = (): (Node | string)[] => {
  const keys = (...names: string[]): Node[] => names.map((name) => h('kbd', {}, name));
  return [
    ...keys('W', 'S'),
    ' zoom, ',
    ...keys('A', 'D'),
    ' pan, ',
    ...keys('.', ','),
    ' next and previous operation, ',
    ...keys('F'),
    ' fit it, ',
    ...keys('0'),
    ' whole step, ',
    ...keys('Esc'),
    ' clear. Drag pans; the wheel zooms after a click, or with Ctrl.',
  ];
};

export const timeline = { id: 'timeline', question: 'What happens inside a step?', mount } satisfies View;
