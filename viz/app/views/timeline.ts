/** One step of the selected policy, a lane a stream: what ran when, and what waited. Zoom, pan and walk it by key. */
import type { PolicyResult } from '../../../sim/result.ts';
import type { Timeline } from '../../../sim/timing/timeline.ts';
import { laneTimes, type StepRows, splitSteps } from '../analysis.ts';
import { h, hiddenTable, onWidth, plotOf, type SvgSelection, svgRoot } from '../dom.ts';
import { timelineFinding } from '../findings.ts';
import { formatNs } from '../format.ts';
import { kindTimes, type Mark } from '../lanes.ts';
import { drawTimeline } from '../timeline-drawing.ts';
import { bindTimelineInput } from '../timeline-input.ts';
import { keyHints, kindLegendItem, markLines, type StepPicker, stepPicker } from '../timeline-parts.ts';
import { type Frame, policyPicker, type Report, type View } from '../view.ts';
import { fitTo, reveal, type TimeSpan } from '../viewport.ts';

interface Recorded {
  readonly timeline: Timeline;
  readonly steps: readonly StepRows[];
}

/** What is on the screen: the policy's timeline and the step of it. */
interface Scene extends Recorded {
  readonly at: number;
  readonly step: StepRows;
}

/** The view's parts, and what the reader did to it: where it is zoomed to and which operation has the focus. */
interface Session {
  readonly report: Report;
  readonly frame: Frame;
  readonly svg: SvgSelection;
  readonly legend: HTMLElement;
  readonly live: HTMLElement;
  readonly table: HTMLElement;
  readonly recorded: Map<string, Recorded>;
  width: number;
  span: TimeSpan | undefined;
  focused: number | undefined;
}

/** Steps are split once a policy, when it is first looked at. */
const recordedOf = (session: Session, policy: string): Recorded | undefined => {
  const known = session.recorded.get(policy);
  if (known !== undefined) return known;
  const timeline = session.report.timelines.find((item) => item.policy === policy)?.timeline;
  if (timeline === undefined || timeline.startNs.length === 0) return undefined;
  const recorded = { timeline, steps: splitSteps(timeline) };
  session.recorded.set(policy, recorded);
  return recorded;
};

/** The asked step, or the next recorded one, or the last; undefined when the policy has no timeline. */
const sceneOf = (session: Session): Scene | undefined => {
  const { policy, step: asked } = session.report.store.get();
  const recorded = recordedOf(session, policy);
  if (recorded === undefined) return undefined;
  const found = recorded.steps.findIndex(({ step }) => step >= asked);
  const at = found < 0 ? recorded.steps.length - 1 : found;
  return { ...recorded, at, step: recorded.steps[at] };
};

const rowSpan = ({ timeline }: Scene, row: number): TimeSpan => ({
  fromNs: timeline.startNs[row],
  toNs: timeline.endNs[row],
});

const kindOf = ({ timeline }: Scene, row: number): string => timeline.kinds[timeline.kind[row]];

const showTip = (
  session: Session,
  anchor: Element | readonly [number, number],
  mark: Pick<Mark, 'rows' | 'kind'>,
): void => {
  const scene = sceneOf(session);
  if (scene === undefined) return;
  session.report.tip.show(anchor, mark.kind, markLines(scene.timeline, mark.rows, scene.step.fromNs));
};

/** The tip of the focused operation stays until it is cleared; without a focus there is none. */
const showFocusTip = (session: Session): void => {
  const { svg, focused, report } = session;
  const scene = sceneOf(session);
  const node = svg.select<SVGRectElement>('.focus').node();
  if (node === null || scene === undefined || focused === undefined) report.tip.hide();
  else showTip(session, node, { rows: [focused], kind: kindOf(scene, focused) });
};

const redraw = (session: Session): void => {
  const scene = sceneOf(session);
  const { svg, width, span, focused } = session;
  if (scene === undefined || width === 0) return;
  const { timeline, step } = scene;
  drawTimeline(svg, {
    timeline,
    step,
    lanes: laneTimes(timeline, step),
    span: span ?? step,
    width,
    focused,
    onHover: (anchor, mark) => (mark === undefined ? showFocusTip(session) : showTip(session, anchor, mark)),
    onPick: (mark) => focusRow(session, mark.rows[0]),
  });
};

const focusRow = (session: Session, row: number | undefined): void => {
  session.focused = row;
  const scene = sceneOf(session);
  if (scene !== undefined && row !== undefined) {
    session.span = reveal(session.span ?? scene.step, rowSpan(scene, row), scene.step);
    const lines = markLines(scene.timeline, [row], scene.step.fromNs);
    session.live.textContent = [kindOf(scene, row), ...lines.map((line) => line.join(' '))].join(', ');
  }
  redraw(session);
  showFocusTip(session);
};

/** Moves the focus along its lane; the first move starts at an end of the whole step. */
const walk = (session: Session, by: number): void => {
  const scene = sceneOf(session);
  if (scene === undefined) return;
  const { focused } = session;
  const { stream } = scene.timeline;
  const lane = scene.step.rows.filter((row) => focused === undefined || stream[row] === stream[focused]);
  const from = focused === undefined ? (by > 0 ? -1 : lane.length) : lane.indexOf(focused);
  focusRow(session, lane[Math.max(0, Math.min(lane.length - 1, from + by))]);
};

const fitFocus = (session: Session): void => {
  const scene = sceneOf(session);
  if (scene === undefined || session.focused === undefined) return;
  session.span = fitTo(rowSpan(scene, session.focused), scene.step);
  redraw(session);
  showFocusTip(session);
};

const bindInput = (session: Session): void =>
  bindTimelineInput(session.svg, {
    width: () => session.width,
    whole: () => sceneOf(session)?.step,
    span: () => session.span ?? sceneOf(session)?.step,
    setSpan: (span) => {
      session.span = span;
      redraw(session);
      showFocusTip(session);
    },
    walk: (by) => walk(session, by),
    fitFocus: () => fitFocus(session),
    clear: () => focusRow(session, undefined),
  });

const describeScene = (session: Session, scene: Scene, policy: PolicyResult): void => {
  const { timeline, step } = scene;
  const lanes = laneTimes(timeline, step);
  const times = kindTimes(timeline, step);
  session.frame.caption.textContent = timelineFinding(policy, step, lanes);
  session.legend.replaceChildren(
    ...times.map(({ kind, timeNs }) => kindLegendItem(kind, timeNs, step.toNs - step.fromNs)),
  );
  session.table.replaceChildren(
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
};

/** Another policy or step: everything anew, zoom and focus forgotten. */
const showScene = (session: Session, picker: StepPicker): void => {
  const { report, frame } = session;
  const name = report.store.get().policy;
  const scene = sceneOf(session);
  const policy = report.result.policies.find((item) => item.policy === name);
  session.span = undefined;
  session.focused = undefined;
  frame.body.classList.toggle('empty', scene === undefined);
  picker.element.hidden = scene === undefined;
  if (scene === undefined || policy === undefined) {
    frame.caption.textContent = `No timeline was recorded for ${name}.`;
    return;
  }
  picker.show(scene.steps, scene.at);
  describeScene(session, scene, policy);
  redraw(session);
};

const mount = (frame: Frame, report: Report): void => {
  const svg = svgRoot(
    'timeline-plot',
    'Operations of one step by stream. W and S zoom, A and D pan, full stop and comma walk the operations.',
  );
  const plot = plotOf(svg);
  const session: Session = {
    report,
    frame,
    svg,
    legend: h('ul', { class: 'legend kinds' }),
    live: h('p', { class: 'visually-hidden', 'aria-live': 'polite' }),
    table: h('div', {}),
    recorded: new Map(),
    width: 0,
    span: undefined,
    focused: undefined,
  };
  const picker = stepPicker((at) => {
    const step = sceneOf(session)?.steps[at]?.step;
    if (step !== undefined) report.store.set({ step });
  });
  frame.controls.append(policyPicker(report, 'Policy'), picker.element);
  frame.body.append(plot, session.legend, keyHints(), session.live, session.table);
  bindInput(session);
  report.store.subscribe((state, before) => {
    if (state.policy !== before.policy || state.step !== before.step) showScene(session, picker);
  });
  showScene(session, picker);
  onWidth(plot, (width) => {
    session.width = width;
    redraw(session);
  });
};

export const timeline = { id: 'timeline', question: 'What happens inside a step?', mount } satisfies View;
