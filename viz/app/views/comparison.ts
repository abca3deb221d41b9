/** The comparison table: one row a policy, a bar behind every magnitude, columns that explain themselves and sort. */
import type { PolicyResult } from '../../../sim/result.ts';
import { boundaryBytes, boundaryKeys } from '../analysis.ts';
import type { Column } from '../column.ts';
import { h } from '../dom.ts';
import { tableFinding } from '../findings.ts';
import {
  boundaryLabel,
  formatBytes,
  formatCount,
  formatNs,
  formatNumber,
  formatRatio,
  resourceLabel,
} from '../format.ts';
import { qualityColumns } from '../quality-columns.ts';
import { isInward } from '../sankey-layout.ts';
import type { Frame, Report, View } from '../view.ts';

const hbmRead = (policy: PolicyResult): number => {
  const hbm = policy.traffic.hbm;
  return hbm !== undefined && 'readBytesPerStep' in hbm ? hbm.readBytesPerStep : 0;
};

const hbmDetail = (policy: PolicyResult): string => {
  const hbm = policy.traffic.hbm;
  return hbm !== undefined && 'writeBytesPerStep' in hbm
    ? `written ${formatBytes(hbm.writeBytesPerStep)}`
    : '';
};

const errorText = ({ stepNs, stepIntervalNs: [loNs, hiNs], domain }: PolicyResult): string => {
  const ratio = Math.max(hiNs - stepNs.mean, stepNs.mean - loNs) / stepNs.mean;
  return `± ${Math.round(100 * ratio)} %${domain === 'extrapolated' ? '?' : ''}`;
};

const shortText = (policy: PolicyResult): string =>
  Object.entries(policy.shortBytes ?? {})
    .map(([tier, sizeBytes]) => `${tier.toUpperCase()} short by ${formatBytes(sizeBytes)}`)
    .join(', ');

const timeColumns: readonly Column[] = [
  {
    title: 'Fits',
    unit: '',
    help: 'Whether weights, KV cache and indexes fit the memories of the machine, or how many bytes are missing.',
    value: (policy) => Object.values(policy.shortBytes ?? {}).reduce((sum, sizeBytes) => sum + sizeBytes, 0),
    text: (policy) => (policy.fits ? '✓ yes' : '✗ no'),
    detail: shortText,
  },
  {
    title: 'Step time',
    unit: 'mean ± error, p95',
    help: 'Time to produce one token for every sequence of the batch. Below it, how far the cost model could be off if all its errors pointed one way (? = beyond the range that it was calibrated on), and the 95th percentile over the steps.',
    value: (policy) => policy.stepNs.mean,
    text: (policy) => formatNs(policy.stepNs.mean),
    detail: (policy) => `${errorText(policy)} · p95 ${formatNs(policy.stepNs.p95)}`,
    bar: 'largest',
  },
  {
    title: 'Tokens',
    unit: 'per s',
    help: 'Tokens a second of the whole batch: batch size over mean step time.',
    value: (policy) => policy.tokensPerS,
    text: (policy) => formatNumber(policy.tokensPerS),
    bar: 'largest',
  },
  {
    title: 'Prefill',
    unit: 'once',
    help: 'Time to read the prompt and build the KV cache, with whatever the policy does then: scoring, encoding, moving it out.',
    value: (policy) => policy.prefillNs,
    text: (policy) => formatNs(policy.prefillNs),
    bar: 'largest',
    extra: true,
  },
  {
    title: 'What binds',
    unit: '',
    help: 'The resource that the critical path of a step waits for most, and its share of that path. Speeding up anything else helps less.',
    value: (policy) => resourceLabel(policy.bound.resource),
    text: (policy) => resourceLabel(policy.bound.resource),
    detail: (policy) => `${formatRatio(policy.bound.share)} of the path`,
  },
];

/** What is written out, away from the GPU, seldom holds a step up. */
const leadsAway = (key: string): boolean => {
  const [from, to] = key.split('->');
  return !isInward({ from, to });
};

const boundaryColumn = (key: string): Column => ({
  title: boundaryLabel(key),
  unit: 'per step',
  help: `Bytes that cross from ${boundaryLabel(key).replace('→', 'to')} in one step${key.includes('dram') && key.includes('hbm') ? ', over the host link (PCIe or chip-to-chip)' : ''}, and how much of the step the link is busy with them.`,
  value: (policy) => boundaryBytes(policy, key),
  text: (policy) => formatBytes(boundaryBytes(policy, key)),
  detail: (policy) => {
    const traffic = policy.traffic[key];
    return traffic !== undefined && 'busyRatio' in traffic && traffic.busyRatio > 0
      ? `busy ${formatRatio(traffic.busyRatio)}`
      : '';
  },
  bar: 'largest',
  extra: leadsAway(key),
});

const memoryColumns: readonly Column[] = [
  {
    title: 'HBM read',
    unit: 'per step',
    help: 'Bytes of KV cache, indexes and staging that the GPU reads from its own memory in one step; weights come on top and are the same for all. Below it, the bytes written.',
    value: hbmRead,
    text: (policy) => formatBytes(hbmRead(policy)),
    detail: hbmDetail,
    bar: 'largest',
  },
  {
    title: 'KV in HBM',
    unit: 'peak',
    help: 'Largest size of the KV cache, with its indexes, that lives in GPU memory. Below it, the peak of everything there.',
    value: (policy) => policy.resident.hbm.kvPeakBytes,
    text: (policy) => formatBytes(policy.resident.hbm.kvPeakBytes),
    detail: (policy) => `all ${formatBytes(policy.resident.hbm.peakBytes)}`,
    bar: 'largest',
  },
  {
    title: 'KV in DRAM',
    unit: 'peak',
    help: 'Largest size of the KV cache that lives in the memory of the host.',
    value: (policy) => policy.resident.dram.kvPeakBytes,
    text: (policy) => formatBytes(policy.resident.dram.kvPeakBytes),
    bar: 'largest',
  },
];

const columnsOf = (policies: readonly PolicyResult[]): readonly Column[] => [
  ...timeColumns,
  ...boundaryKeys(policies).map(boundaryColumn),
  ...memoryColumns,
  ...qualityColumns,
];

const cell = (column: Column, policy: PolicyResult, largest: number): HTMLElement => {
  const value = column.value(policy);
  const td = h(
    'td',
    { class: column.bar === undefined ? 'word' : 'number' },
    h('span', {}, column.text(policy)),
  );
  td.classList.toggle('extra', column.extra === true);
  if (column.bar !== undefined) {
    const full = column.bar === 'one' ? 1 : largest;
    const bar = h('i', { class: 'bar', 'aria-hidden': 'true' });
    bar.style.setProperty('--share', typeof value === 'number' && full > 0 ? String(value / full) : '0');
    td.append(bar);
  }
  const detail = column.detail?.(policy) ?? '';
  if (detail !== '') td.append(h('small', {}, detail));
  if (typeof value === 'number') td.title = formatCount(value);
  return td;
};

/** Long names with parameters may break before the parameters and between them. */
const nameText = (name: string): HTMLElement => {
  const parts = name.split(/(?=\()|(?<=[:;,])/);
  return h('span', {}, ...parts.flatMap((part, i) => (i === 0 ? [part] : [h('wbr', {}), part])));
};

const row = (policy: PolicyResult, columns: readonly Column[], report: Report): HTMLTableRowElement => {
  const { store, result } = report;
  const radio = h('input', { type: 'radio', name: 'policy', value: policy.policy });
  radio.checked = store.get().policy === policy.policy;
  const head = h('th', { scope: 'row' }, h('label', {}, radio, nameText(policy.policy)));
  if (policy.inputs !== 'exact') head.append(h('small', {}, policy.inputs));
  const largest = columns.map((column) =>
    Math.max(0, ...result.policies.map(column.value).filter((value) => typeof value === 'number')),
  );
  const tr = h('tr', {}, head, ...columns.map((column, i) => cell(column, policy, largest[i])));
  tr.classList.toggle('misfit', !policy.fits);
  tr.addEventListener('click', () => store.set({ policy: policy.policy }));
  tr.addEventListener('pointerenter', () => store.set({ hovered: policy.policy }));
  tr.addEventListener('pointerleave', () => store.set({ hovered: null }));
  return tr;
};

/** Unknown values go last whichever way the column is sorted. */
const compare = (a: number | string | null, b: number | string | null, sign: number): number => {
  if (a === null || b === null) return Number(a === null) - Number(b === null);
  return a === b ? 0 : a < b ? -sign : sign;
};

const sortButton = (
  column: Pick<Column, 'title' | 'unit' | 'help' | 'extra'>,
  report: Report,
  onSort: (ascending: boolean) => void,
): HTMLTableCellElement => {
  const button = h('button', { type: 'button', 'aria-describedby': 'tip' }, column.title);
  if (column.unit !== '') button.append(' ', h('small', {}, column.unit));
  const th = h('th', { scope: 'col', 'aria-sort': 'none' }, button);
  th.classList.toggle('extra', column.extra === true);
  const explain = (): void => report.tip.show(button, column.title, [[column.help, '']]);
  button.addEventListener('pointerenter', explain);
  button.addEventListener('focus', explain);
  button.addEventListener('pointerleave', report.tip.hide);
  button.addEventListener('blur', report.tip.hide);
  button.addEventListener('click', () => {
    const ascending = th.getAttribute('aria-sort') !== 'ascending';
    for (const other of th.parentElement?.children ?? []) other.setAttribute('aria-sort', 'none');
    th.setAttribute('aria-sort', ascending ? 'ascending' : 'descending');
    onSort(ascending);
  });
  return th;
};

const policyColumn = {
  title: 'Policy',
  unit: '',
  help: 'What decides which KV entries are kept, where they live and which are read. Choose one to see its flows and its timeline.',
};

const mount = ({ controls, caption, body }: Frame, report: Report): void => {
  const { result, store } = report;
  const columns = columnsOf(result.policies);
  caption.textContent = tableFinding(result);
  const rows = new Map(result.policies.map((policy) => [policy, row(policy, columns, report)]));
  const tbody = h('tbody', {}, ...rows.values());
  const sortBy = (value: Column['value'], ascending: boolean): void => {
    const sorted = [...rows].sort(([a], [b]) => compare(value(a), value(b), ascending ? 1 : -1));
    tbody.append(...sorted.map(([, element]) => element));
  };
  const heads = [
    sortButton(policyColumn, report, (ascending) => sortBy((policy) => policy.policy, ascending)),
    ...columns.map((column) => sortButton(column, report, (ascending) => sortBy(column.value, ascending))),
  ];
  const table = h('table', { class: 'comparison' }, h('thead', {}, h('tr', {}, ...heads)), tbody);
  const all = h('input', { type: 'checkbox' });
  all.addEventListener('change', () => table.classList.toggle('all', all.checked));
  controls.append(h('label', { class: 'switch' }, all, 'all measures'));
  body.append(h('div', { class: 'scroll' }, table));
  const mark = (): void => {
    const { policy, hovered } = store.get();
    for (const [item, element] of rows) {
      element.classList.toggle('selected', item.policy === policy);
      element.classList.toggle('hovered', item.policy === hovered);
      const radio = element.querySelector('input');
      if (radio !== null) radio.checked = item.policy === policy;
    }
  };
  tbody.addEventListener('change', (event) => {
    if (event.target instanceof HTMLInputElement) store.set({ policy: event.target.value });
  });
  store.subscribe(mark);
  mark();
};

export const comparison = {
  id: 'comparison',
  question: 'How do the policies compare?',
  mount,
} satisfies View;
