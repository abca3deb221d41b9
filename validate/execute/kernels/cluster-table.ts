/**
 * RetroInfer's look-up of chosen clusters by host threads. Clusters of every number of pages, cached and not, follow each
 * other in a table that layers share; each layer asks for others, of as many pages as the policy says.
 */
import { DESCRIPTOR_WORDS, INLINE_PAGES } from '../../../kernels/calls/cluster-table.ts';
import { byPosition } from '../memory.ts';
import { countOf, type KernelBinder, PAGE_TABLE } from './kernel-use.ts';

const ENTRY_BYTES = 12;
/** Numbers of pages that clusters have at least, from one on, in both kinds. */
const LEAST_KINDS = 16;
/** Tokens of a page: the default of sim/policy/policies/retroinfer.ts. */
const PAGE_TOKENS = 8;

/** Words of the descriptor of a cluster: its pages go by its number, cached ones after as many far ones. */
const descriptorWord =
  (kinds: number) =>
  (at: number): number => {
    const cluster = Math.floor(at / DESCRIPTOR_WORDS);
    const pages = (cluster % kinds) + 1;
    switch (at % DESCRIPTOR_WORDS) {
      case 0:
        return pages;
      case 1:
        return PAGE_TOKENS;
      case 2:
        return cluster * kinds * PAGE_TOKENS;
      case 3:
        return cluster % (2 * kinds) < kinds ? 0 : 1;
      case DESCRIPTOR_WORDS - 1:
        return 0;
      default:
        return at;
    }
  };

/** How much of a total the i-th of `count` equal shares gets in whole numbers. */
const shareOf = (total: number, i: number, count: number): number =>
  Math.floor(((i + 1) * total) / count) - Math.floor((i * total) / count);

export const clusterTable: KernelBinder = (use) => {
  const { binding, rows } = use;
  const { layout } = binding;
  const count = countOf(use, 'retrieved');
  const pages = countOf(use, 'pages');
  if (count < 1 || pages < count) return null;
  const kinds = 2 ** Math.ceil(Math.log2(Math.max(LEAST_KINDS, 1 + pages / count)));
  const sets = Math.ceil(countOf(use, 'clusters') / (2 * kinds));
  const clusters = 2 * kinds * sets;
  const cached = Math.round((count * countOf(use, 'cachedPages')) / pages);
  const first = binding.calls.length;
  /** Low and high words of the i-th cluster of all rows. */
  const idWord = (word: number): number => {
    if (word % 2 === 1) return 0;
    const at = Math.floor(word / 2);
    const i = at % count;
    const kind = shareOf(pages, i, count) - 1 + kinds * shareOf(cached, i, count);
    return kind + 2 * kinds * ((Math.imul(at + first, 0x9e3779b1) >>> 8) % sets);
  };
  // The copy of the table goes by the mean over heads, before it is rounded.
  const tableBytes = Math.ceil(rows * Math.max(pages, use.call.counts.pages)) * ENTRY_BYTES;
  const entries = layout.place('hostOutputs', tableBytes);
  const table = `clusters ${clusters} by ${kinds}`;
  binding.add('cluster-table', {
    refs: {
      ids: layout.numbers('hostTables', 2 * rows * count, byPosition(idWord)),
      descriptors: binding.once(table, () =>
        layout.numbers('hostTables', rows * clusters * DESCRIPTOR_WORDS, byPosition(descriptorWord(kinds))),
      ),
      more: binding.once(`pages of ${table}`, () =>
        layout.numbers(
          'hostTables',
          rows * Math.max(1, kinds - INLINE_PAGES),
          byPosition((i) => i),
        ),
      ),
      entries,
      counts: layout.place('hostOutputs', 8 * rows),
    },
    ints: {
      rows,
      clusters,
      count,
      pageTokens: PAGE_TOKENS,
      idStride: count,
      moreStride: Math.max(1, kinds - INLINE_PAGES),
      entryStride: pages,
    },
  });
  binding.leave(PAGE_TABLE, entries, tableBytes);
  return { read: rows * count * 4 * DESCRIPTOR_WORDS, write: rows * pages * ENTRY_BYTES };
};
