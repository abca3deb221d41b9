/** "Run it again here": repeats the experiment in the page and says whether the digest is the same. */
import { h } from './dom.ts';
import { replay } from './replay.ts';
import type { Report } from './view.ts';

type Outcome = 'same' | 'differs' | 'failed';

const traceInput = (name: string): { readonly field: HTMLElement; readonly input: HTMLInputElement } => {
  const input = h('input', { type: 'file', accept: '.safetensors' });
  return { input, field: h('label', { class: 'file' }, `Trace ${name}: `, input) };
};

/** Lets the browser paint the progress bar before the run takes the thread. */
const nextPaint = (): Promise<void> =>
  new Promise((resolve) => {
    requestAnimationFrame(() => setTimeout(resolve, 0));
  });

/** The panel; nothing but a reason when the result cannot be repeated in a page. */
export const replayPanel = ({ result, replay: offer }: Report): HTMLElement => {
  const panel = h('div', { class: 'replay' });
  if (!offer.available) {
    panel.append(
      h('span', { class: 'quiet' }, `Can not be re-run in this page: ${offer.reason ?? 'no reason given'}.`),
    );
    return panel;
  }
  const button = h('button', { type: 'button' }, 'Run it again here');
  const progress = h('progress', { 'aria-label': 'Running', hidden: '' });
  const verdict = h('output', { 'aria-live': 'polite' });
  const trace = offer.needsTrace === undefined ? undefined : traceInput(offer.needsTrace);
  panel.append(...(trace === undefined ? [] : [trace.field]), button, progress, verdict);
  const say = (outcome: Outcome, text: string): void => {
    verdict.className = outcome;
    verdict.textContent = text;
  };
  const ready = (): void => {
    button.disabled = trace !== undefined && (trace.input.files?.length ?? 0) === 0;
  };
  const run = async (): Promise<void> => {
    button.disabled = true;
    progress.hidden = false;
    verdict.textContent = '';
    await nextPaint();
    try {
      const traceBytes = (await trace?.input.files?.[0]?.arrayBuffer()) ?? null;
      const { digest } = await replay(result.experiment, traceBytes);
      if (digest === result.digest) say('same', '✓ same digest');
      else say('differs', `✗ differs: ${digest.slice(0, 16)}…`);
    } catch (error) {
      say('failed', `✗ ${error instanceof Error ? error.message : String(error)}`);
    } finally {
      progress.hidden = true;
      ready();
    }
  };
  trace?.input.addEventListener('change', ready);
  button.addEventListener('click', run);
  ready();
  return panel;
};
