/** The inspection page's entry: unpacks the result, makes the store, mounts the views, keeps the address in step. */
import type { InspectionResult } from '../../traces/attention/inspect/result.ts';
import { h } from '../app/dom.ts';
import { readPacked } from '../app/packed.ts';
import { startPage } from '../app/start-page.ts';
import { createStore } from '../app/store.ts';
import { createTip } from '../app/tip.ts';
import { mountView } from '../app/view.ts';
import { inspectHeader } from './header.ts';
import { cellsOf, type InspectPage, type InspectState, knownStatistics } from './page.ts';
import { ageing } from './views/ageing.ts';
import { concentration } from './views/concentration.ts';
import { heat } from './views/heat.ts';
import { locality } from './views/locality.ts';

/** What the address says (#statistic=…&layer=…&head=…), as far as it names what exists; else the most focused head. */
const stateFromAddress = (result: InspectionResult): InspectState => {
  const asked = new URLSearchParams(location.hash.slice(1));
  const known = knownStatistics(result).map(({ key }) => key);
  const statistic = asked.get('statistic') ?? '';
  const cells = cellsOf(result);
  const named = cells.find(
    ({ layer, head }) => String(layer) === asked.get('layer') && String(head.head) === asked.get('head'),
  );
  const { layer, head } =
    named ?? cells.reduce((best, cell) => (cell.head.topMass['1%'] > best.head.topMass['1%'] ? cell : best));
  return { statistic: known.includes(statistic) ? statistic : 'top-1%', layer, head: head.head };
};

const keepAddress = ({ statistic, layer, head }: InspectState): void => {
  const address = new URLSearchParams({ statistic, layer: String(layer), head: String(head) });
  history.replaceState(null, '', `#${address}`);
};

startPage(async (root) => {
  const result = JSON.parse(new TextDecoder().decode(await readPacked())) as InspectionResult;
  const store = createStore(stateFromAddress(result), (flush) => requestAnimationFrame(flush));
  const page: InspectPage = { result, store, tip: createTip(document.body) };
  store.subscribe(keepAddress);
  root.replaceChildren(inspectHeader(page));
  const upper = h('div', { class: 'pair' });
  const lower = h('div', { class: 'pair' });
  root.append(upper, lower);
  mountView(heat, upper, page);
  mountView(concentration, upper, page);
  mountView(locality, lower, page);
  mountView(ageing, lower, page);
});
