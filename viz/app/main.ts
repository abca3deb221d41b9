/** The report page's entry: unpacks the payload, makes the store, mounts the views, keeps the address in step. */

import './zod-in-page.ts';
import { type Payload, unpackPayload } from '../payload.ts';
import { h } from './dom.ts';
import { winnerOf } from './findings.ts';
import { pageHeader } from './header.ts';
import { readPacked } from './packed.ts';
import { patternSheet } from './patterns.ts';
import { startPage } from './start-page.ts';
import { createStore, type State } from './store.ts';
import { createTip } from './tip.ts';
import { mountView, type Report } from './view.ts';
import { comparison } from './views/comparison.ts';
import { flows } from './views/flows.ts';
import { timeline } from './views/timeline.ts';
import { tradeoff } from './views/tradeoff.ts';

const readPayload = async (): Promise<Payload> => unpackPayload(await readPacked());

/** What the address says (#policy=…&step=…), as far as it names things that exist. */
const stateFromAddress = ({ result }: Payload): State => {
  const asked = new URLSearchParams(location.hash.slice(1));
  const names = result.policies.map(({ policy }) => policy);
  const policy = asked.get('policy') ?? '';
  const step = Number.parseInt(asked.get('step') ?? '', 10);
  return {
    // First look: the policy that the first figure's caption names.
    policy: names.includes(policy) ? policy : (winnerOf(result)?.policy ?? names[0] ?? ''),
    hovered: null,
    step: Number.isNaN(step) ? 0 : step,
  };
};

const keepAddress = (state: State, before: State): void => {
  if (state.policy === before.policy && state.step === before.step) return;
  const address = new URLSearchParams({ policy: state.policy, step: String(state.step) });
  history.replaceState(null, '', `#${address}`);
};

startPage(async (root) => {
  const payload = await readPayload();
  const store = createStore(stateFromAddress(payload), (flush) => requestAnimationFrame(flush));
  const report: Report = { ...payload, store, tip: createTip(document.body) };
  store.subscribe(keepAddress);
  const patterns = patternSheet();
  if (patterns !== null) document.body.append(patterns);
  root.replaceChildren(pageHeader(report));
  const upper = h('div', { class: 'pair' });
  root.append(upper);
  mountView(tradeoff, upper, report);
  mountView(flows, upper, report);
  mountView(comparison, root, report);
  mountView(timeline, root, report);
});
