/** Keys, wheel and drag of the timeline, matched by physical key so that W/A/S/D sit alike on every layout. */
import type { SvgSelection } from './dom.ts';
import { labelColumnPx } from './timeline-drawing.ts';
import { panBy, type TimeSpan, zoomAt } from './viewport.ts';

export interface TimelineControls {
  /** Width of the whole drawing, px. */
  width(): number;
  /** The step in view; undefined when there is no timeline. */
  whole(): TimeSpan | undefined;
  span(): TimeSpan | undefined;
  setSpan(span: TimeSpan | undefined): void;
  /** Moves the focus by so many operations along its lane. */
  walk(by: number): void;
  fitFocus(): void;
  clear(): void;
}

const zoomStep = 0.7;
const panShare = 0.15;

type Action = (controls: TimelineControls, span: TimeSpan, whole: TimeSpan) => void;

const zoomBy =
  (factor: number): Action =>
  (controls, span, whole) =>
    controls.setSpan(zoomAt(span, (span.fromNs + span.toNs) / 2, factor, whole));

const panShareOf =
  (share: number): Action =>
  (controls, span, whole) =>
    controls.setSpan(panBy(span, share * (span.toNs - span.fromNs), whole));

const actions: Readonly<Record<string, Action>> = {
  KeyW: zoomBy(zoomStep),
  KeyS: zoomBy(1 / zoomStep),
  KeyA: panShareOf(-panShare),
  KeyD: panShareOf(panShare),
  ArrowLeft: panShareOf(-panShare),
  ArrowRight: panShareOf(panShare),
  Period: (controls) => controls.walk(1),
  Comma: (controls) => controls.walk(-1),
  KeyF: (controls) => controls.fitFocus(),
  Digit0: (controls) => controls.setSpan(undefined),
  Escape: (controls) => controls.clear(),
};

const bindPointer = (node: SVGSVGElement, controls: TimelineControls): void => {
  const nsPerPx = (span: TimeSpan): number =>
    (span.toNs - span.fromNs) / Math.max(1, controls.width() - labelColumnPx);
  let dragFromPx: number | undefined;
  node.addEventListener(
    'wheel',
    (event) => {
      const span = controls.span();
      const whole = controls.whole();
      // A page that scrolls must not be caught by a chart: the wheel is ours only after a click or with Ctrl.
      if (span === undefined || whole === undefined || !(event.ctrlKey || document.activeElement === node))
        return;
      event.preventDefault();
      const px = event.clientX - node.getBoundingClientRect().left - labelColumnPx;
      controls.setSpan(
        zoomAt(span, span.fromNs + Math.max(0, px) * nsPerPx(span), 1.0018 ** event.deltaY, whole),
      );
    },
    { passive: false },
  );
  node.addEventListener('pointerdown', (event) => {
    dragFromPx = event.clientX;
  });
  node.addEventListener('pointermove', (event) => {
    const span = controls.span();
    const whole = controls.whole();
    if (dragFromPx === undefined || event.buttons !== 1 || span === undefined || whole === undefined) return;
    controls.setSpan(panBy(span, (dragFromPx - event.clientX) * nsPerPx(span), whole));
    dragFromPx = event.clientX;
  });
  node.addEventListener('pointerup', () => {
    dragFromPx = undefined;
  });
};

/** Makes the drawing focusable and lets it act on `controls`. */
export const bindTimelineInput = (svg: SvgSelection, controls: TimelineControls): void => {
  svg.attr('tabindex', 0);
  svg.on('keydown', (event: KeyboardEvent) => {
    const action = actions[event.code];
    const span = controls.span();
    const whole = controls.whole();
    if (action === undefined || span === undefined || whole === undefined) return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action(controls, span, whole);
  });
  const node = svg.node();
  if (node !== null) bindPointer(node, controls);
};
